//! Lists of values: what may match, what may not, and what of a stored one cannot be read.

use crate::read::{Field, Fields};

/// A positive and a negative list: any of the first (when there are some), none of the second.
///
/// Values that cannot be read exist only in objects that were stored so. They can only close: in a DENY policy they
/// count as matching in a positive and as not matching in a negative list, in an ALLOW policy the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches<T> {
    /// One of these must match, unless there are none.
    pub any: Vec<T>,
    /// None of these may match.
    pub none: Vec<T>,
    /// Values of the first list that cannot be read, in words.
    pub unreadable_any: Vec<String>,
    /// Values of the second list that cannot be read, in words.
    pub unreadable_none: Vec<String>,
}

impl<T> Default for Matches<T> {
    fn default() -> Matches<T> {
        Matches {
            any: Vec::new(),
            none: Vec::new(),
            unreadable_any: Vec::new(),
            unreadable_none: Vec::new(),
        }
    }
}

impl<T> Matches<T> {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty() && self.unreadable().next().is_none()
    }

    /// The values that cannot be read, in words.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let all = self.unreadable_any.iter().chain(&self.unreadable_none);
        all.map(String::as_str)
    }

    pub(super) fn read(
        fields: &mut Fields<'_>,
        any: &'static str,
        none: &'static str,
        read: impl Fn(&Field<'_>) -> Option<T>,
    ) -> Matches<T> {
        let (any, unreadable_any) = list(fields, any, &read);
        let (none, unreadable_none) = list(fields, none, &read);
        Matches {
            any,
            none,
            unreadable_any,
            unreadable_none,
        }
    }
}

/// An empty list says nothing about whether "all" or "none" is meant, so it is refused.
pub(super) fn not_empty<'a>(field: &Field<'a>, items: Vec<Field<'a>>) -> Vec<Field<'a>> {
    if items.is_empty() && field.tree().is_sequence() {
        field.error("is an empty list: name at least one entry, or leave the field out to match everything");
    }
    items
}

/// A list of values that each must be good, and what of a stored one cannot be read; null is absent.
pub(super) fn list<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> (Vec<T>, Vec<String>) {
    let (mut good, mut unreadable) = (Vec::new(), Vec::new());
    let Some(field) = fields.get(name) else {
        return (good, unreadable);
    };
    for item in not_empty(&field, field.items()) {
        let before = item.mark();
        match read(&item) {
            Some(value) => good.push(value),
            None if item.is_stored() => {
                item.take_back(before);
                unreadable.push(item.in_words());
            }
            None => {}
        }
    }
    (good, unreadable)
}
