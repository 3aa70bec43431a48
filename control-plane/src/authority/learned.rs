//! Which roots of a plugged-in authority workloads have had the time to learn, and which they may still need. Somebody else
//! decides about these roots, and may exchange them at once; workloads learn roots with their own next certificate. Pure: the
//! time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// What is known of the roots, by their text.
#[derive(Debug)]
pub(super) struct Learned {
    /// The longest life of a certificate.
    life: Duration,
    roots: BTreeMap<String, Root>,
}

#[derive(Clone, Copy, Debug)]
struct Root {
    /// When everybody has a certificate that came with it.
    ready: SystemTime,
    /// When nobody has a certificate any more that it stands for.
    needed_until: SystemTime,
}

impl Learned {
    /// Of an authority that begins now with these. What was before is not known: they may sign, and certificates of each
    /// may be in use.
    pub(super) fn new(life: Duration, roots: &[String], now: SystemTime) -> Self {
        let root = Root {
            ready: now,
            needed_until: now + life,
        };
        Self {
            life,
            roots: roots.iter().map(|text| (text.clone(), root)).collect(),
        }
    }

    /// The longest life of a certificate.
    pub(super) fn life(&self) -> Duration {
        self.life
    }

    /// `signing` is the root that what signs now leads to.
    pub(super) fn signs(&mut self, signing: &str, now: SystemTime) {
        if let Some(root) = self.roots.get_mut(signing) {
            root.needed_until = root.needed_until.max(now + self.life);
        }
    }

    /// These are trusted from now on, besides those that are still needed.
    pub(super) fn trusted(&mut self, roots: &[String], now: SystemTime) {
        self.roots
            .retain(|text, root| roots.contains(text) || now < root.needed_until);
        for text in roots {
            self.roots.entry(text.clone()).or_insert(Root {
                ready: now + self.life,
                needed_until: now,
            });
        }
    }

    /// Those that are not among `roots` and are still needed, in PEM.
    pub(super) fn missing(&self, roots: &[String], now: SystemTime) -> String {
        let missing = self
            .roots
            .iter()
            .filter(|(text, root)| !roots.contains(text) && now < root.needed_until);
        missing.map(|(text, _)| text.as_str()).collect()
    }

    /// When everybody will have learned this root; nothing where it is not trusted yet.
    pub(super) fn ready(&self, root: &str) -> Option<SystemTime> {
        self.roots.get(root).map(|root| root.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn roots(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{name}\n")).collect()
    }

    #[test]
    fn a_root_signs_once_all_have_learned_it_and_stays_as_long_as_it_is_needed() {
        let mut now = SystemTime::UNIX_EPOCH + 1000 * LIFE;
        let mut learned = Learned::new(LIFE, &roots(&["old"]), now);
        now += 10 * LIFE;
        learned.signs("old\n", now);
        learned.trusted(&roots(&["old", "new"]), now);
        assert_eq!(learned.ready("old\n"), Some(now - 10 * LIFE));
        assert_eq!(learned.ready("new\n"), Some(now + LIFE));
        assert_eq!(learned.ready("other\n"), None);
        now += LIFE;
        learned.signs("old\n", now);
        learned.signs("new\n", now);
        // Left out at once, it is kept until what it has signed last is over.
        now += MINUTE;
        learned.signs("new\n", now);
        assert_eq!(learned.missing(&roots(&["new"]), now), "old\n");
        learned.trusted(&roots(&["new"]), now);
        now += LIFE - MINUTE;
        assert_eq!(learned.missing(&roots(&["new"]), now), "");
        learned.trusted(&roots(&["new"]), now);
        assert_eq!(learned.ready("old\n"), None);
        assert_eq!(learned.missing(&roots(&["new"]), now), "");
    }
}
