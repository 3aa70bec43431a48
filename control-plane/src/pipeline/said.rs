//! What was said in the log of which object, so that nothing is said twice: an object comes again for every status
//! that is written on it. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use objects::{ObjectKey, Warning};

/// The last warnings of each object that has some: no more than there are objects.
#[derive(Default)]
pub(super) struct Said(HashMap<ObjectKey, BTreeSet<Warning>>);

impl Said {
    /// Of the warnings that came of compiling these objects, those that have not been said yet. What an object is not
    /// warned of any more is news when it comes back.
    pub(super) fn news(&mut self, given: &[ObjectKey], warnings: Vec<Warning>) -> Vec<Warning> {
        let mut found: BTreeMap<ObjectKey, BTreeSet<Warning>> = BTreeMap::new();
        for warning in warnings {
            found.entry(warning.object.clone()).or_default().insert(warning);
        }
        for key in given {
            if !found.contains_key(key) {
                self.0.remove(key);
            }
        }
        let mut news = Vec::new();
        for (key, warnings) in found {
            let before = self.0.insert(key, warnings.clone()).unwrap_or_default();
            news.extend(warnings.into_iter().filter(|warning| !before.contains(warning)));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use objects::Kind;

    use super::*;

    #[test]
    fn a_warning_is_said_once_until_it_is_gone() {
        let key = |name: &str| ObjectKey::new(Kind::ServiceEntry, "demo", name);
        let warning = |name: &str, message: &str| Warning {
            object: key(name),
            field: "spec".to_owned(),
            message: message.to_owned(),
        };
        let mut said = Said::default();
        let first = vec![warning("a", "1"), warning("b", "1")];
        assert_eq!(said.news(&[key("a"), key("b")], first.clone()), first);
        // Its status was written, and it comes again.
        assert_eq!(said.news(&[key("a")], vec![warning("a", "1")]), []);
        // Also told of where another object was given.
        let more = vec![warning("a", "1"), warning("a", "2")];
        assert_eq!(said.news(&[key("b")], more), [warning("a", "2")]);
        // Mended, and broken again; of the other nothing was said since.
        assert_eq!(said.news(&[key("a")], Vec::new()), []);
        assert_eq!(
            said.news(&[key("a")], vec![warning("a", "1")]),
            [warning("a", "1")]
        );
        assert!(said.0.len() == 1, "b was mended too");
    }
}
