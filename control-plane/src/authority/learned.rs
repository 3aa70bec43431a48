//! Which roots of a plugged-in authority workloads have had the time to learn, and which they may still need. Somebody else
//! decides about these roots, and may exchange them at once; workloads learn roots with their own next certificate. Pure: the
//! time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ca::Moment;
use serde::{Deserialize, Serialize};

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

/// What is written down of a root. Times are seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Written {
    certificate: String,
    ready: u64,
    /// When it is needed no longer; not known of one that the authority comes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    needed_until: Option<u64>,
}

impl Learned {
    /// Of an authority that begins now with these. What was before is not known: they may sign, and certificates of each
    /// may be in use.
    pub(super) fn new(life: Duration, roots: &[String], now: impl Into<Moment>) -> Self {
        let now = now.into();
        let root = Root {
            ready: now.earliest,
            needed_until: now.latest + life,
        };
        Self {
            life,
            roots: roots.iter().map(|text| (text.clone(), root)).collect(),
        }
    }

    /// Of an authority that comes with these roots, after what an earlier process has written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn resumed(
        life: Duration,
        roots: &[String],
        kept: &str,
        now: impl Into<Moment>,
    ) -> Result<Self, serde_json::Error> {
        let now = now.into();
        let written: Vec<Written> = serde_json::from_str(kept)?;
        let mut learned = Self {
            life,
            roots: BTreeMap::new(),
        };
        // Nothing lies further ahead than a life, whatever the clock said then.
        let last = now.latest + life;
        for root in written {
            // One that signed until a moment ago, perhaps.
            let needed_until = root.needed_until.map_or(last, |until| time(until).min(last));
            let root_now = Root {
                ready: time(root.ready).min(last),
                needed_until,
            };
            learned.roots.insert(root.certificate, root_now);
        }
        learned.trusted(roots, now);
        Ok(learned)
    }

    /// What another replica has written counts too.
    ///
    /// # Errors
    /// When it cannot be read; nothing has changed then.
    pub(super) fn merge(
        &mut self,
        kept: &str,
        plugged: &[String],
        now: impl Into<Moment>,
    ) -> Result<(), serde_json::Error> {
        let now = now.into();
        let written: Vec<Written> = serde_json::from_str(kept)?;
        let last = now.latest + self.life;
        for root in written {
            let is_plugged = plugged.contains(&root.certificate);
            let needed_until = root.needed_until.map(|until| time(until).min(last));
            match self.roots.get_mut(&root.certificate) {
                Some(known) => {
                    known.ready = known.ready.max(time(root.ready).min(last));
                    if !is_plugged {
                        known.needed_until =
                            needed_until.map_or(known.needed_until, |until| until.max(known.needed_until));
                    }
                }
                None => {
                    if let Some(needed_until) = needed_until.filter(|until| now.earliest < *until) {
                        let ready = time(root.ready).min(last);
                        self.roots.insert(root.certificate, Root { ready, needed_until });
                    }
                }
            }
        }
        Ok(())
    }

    /// What has to outlive this process. It is another only when roots come or go.
    pub(super) fn to_text(&self, plugged: &[String]) -> String {
        let written: Vec<Written> = self
            .roots
            .iter()
            .map(|(certificate, root)| Written {
                certificate: certificate.clone(),
                ready: seconds(root.ready),
                needed_until: (!plugged.contains(certificate)).then(|| seconds(root.needed_until)),
            })
            .collect();
        // Texts and numbers, which serde_json never refuses.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// The longest life of a certificate.
    pub(super) fn life(&self) -> Duration {
        self.life
    }

    /// `signing` is the root that what signs now leads to.
    pub(super) fn signs(&mut self, signing: &str, now: impl Into<Moment>) {
        if let Some(root) = self.roots.get_mut(signing) {
            root.needed_until = root.needed_until.max(now.into().latest + self.life);
        }
    }

    /// These are trusted from now on, besides those that are still needed.
    pub(super) fn trusted(&mut self, roots: &[String], now: impl Into<Moment>) {
        let now = now.into();
        if !now.is_doubtful {
            // What was written by a clock that was ahead was done before now all the same.
            let last = now.latest + self.life;
            for root in self.roots.values_mut() {
                root.ready = root.ready.min(last);
                root.needed_until = root.needed_until.min(last);
            }
        }
        self.roots
            .retain(|text, root| roots.contains(text) || now.earliest < root.needed_until);
        for text in roots {
            self.roots.entry(text.clone()).or_insert(Root {
                ready: now.latest + self.life,
                needed_until: now.earliest,
            });
        }
    }

    /// Those that are not among `roots` and are still needed, in PEM.
    pub(super) fn missing(&self, roots: &[String], now: impl Into<Moment>) -> String {
        let now = now.into().earliest;
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

/// When that was written at the latest, by what it says; certificates live for `life`.
pub(super) fn last_written(kept: &str, life: Duration) -> Option<SystemTime> {
    let written: Vec<Written> = serde_json::from_str(kept).ok()?;
    let times = written
        .iter()
        .map(|root| time(root.ready.max(root.needed_until.unwrap_or(0))));
    times.max()?.checked_sub(life)
}

/// Rounded up: nothing that is waited for may come early.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() + u64::from(since.subsec_nanos() > 0)
}

fn time(seconds: u64) -> SystemTime {
    // The year 9999, so that there is room for adding to it.
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}

#[cfg(test)]
mod tests;
