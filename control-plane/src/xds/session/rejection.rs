//! What a proxy does not accept, as far as its words can be understood.

use std::collections::{BTreeMap, BTreeSet};

use super::Rejection;
use crate::xds::ResourceKind;

/// How many rejected resources are remembered for a proxy.
const MAX_REJECTIONS: usize = 1000;
/// How much of a reason is kept, in bytes.
const MAX_REASON: usize = 1024;

/// Rejected and not sent anew since.
#[derive(Default)]
pub(super) struct Rejections {
    rejected: BTreeMap<(ResourceKind, String), Rejection>,
    /// Rejected before, and in the response that has no answer yet.
    retried: BTreeSet<(ResourceKind, String)>,
}

impl Rejections {
    pub(super) fn sent<'a>(&mut self, kind: ResourceKind, names: impl Iterator<Item = &'a str>) {
        if self.rejected.is_empty() {
            return;
        }
        // A rejection that named nothing is about some response: the next one of the type settles it.
        let unnamed = std::iter::once("");
        for name in names.chain(unnamed) {
            let key = (kind, name.to_owned());
            if self.rejected.contains_key(&key) {
                self.retried.insert(key);
            }
        }
    }

    pub(super) fn answered(&mut self, kind: ResourceKind, rejections: &[Rejection]) {
        let rejected = &mut self.rejected;
        self.retried.retain(|key| {
            let settled = key.0 == kind;
            if settled {
                rejected.remove(key);
            }
            !settled
        });
        for rejection in rejections {
            let key = (kind, rejection.name.clone());
            if self.rejected.len() < MAX_REJECTIONS || self.rejected.contains_key(&key) {
                self.rejected.insert(key, rejection.clone());
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rejection> {
        self.rejected.values()
    }
}

/// Takes `name: reason` items out of a message, where the name is that of a resource; items are separated by
/// anything. A message without such an item is one rejection without a name.
pub(super) fn read(kind: ResourceKind, message: &str, is_known: impl Fn(&str) -> bool) -> Vec<Rejection> {
    let separator = |letter: char| letter.is_whitespace() || ",;[](){}\"'".contains(letter);
    // Where each item's name begins and its reason begins.
    let mut items = Vec::new();
    for (colon, _) in message.match_indices(": ").take(MAX_REJECTIONS * 4) {
        let begin = message[..colon].rfind(separator).map_or(0, |at| {
            at + message[at..].chars().next().map_or(1, char::len_utf8)
        });
        if is_known(&message[begin..colon]) {
            items.push((begin, colon));
        }
    }
    if items.is_empty() {
        return vec![Rejection {
            kind,
            name: String::new(),
            reason: shortened(message),
        }];
    }
    let ends = items
        .iter()
        .skip(1)
        .map(|(begin, _)| *begin)
        .chain([message.len()]);
    let rejection = |((begin, colon), end): ((usize, usize), usize)| Rejection {
        kind,
        name: message[begin..colon].to_owned(),
        reason: shortened(&message[colon + 2..end]),
    };
    items
        .iter()
        .copied()
        .zip(ends)
        .map(rejection)
        .take(MAX_REJECTIONS)
        .collect()
}

/// The beginning of what a proxy says.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || ",;".contains(letter));
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
