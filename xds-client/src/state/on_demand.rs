//! Names that are asked for one by one, instead of everything of a type.
//!
//! A control plane may answer a name by a resource of another name that lists it among its aliases: an address is
//! answered by the workload that has it. It may also send more than was asked for. So what a name led to is noted,
//! and a name is answered by any resource that is called so or also called so, or by its removal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The most names subscribed to at a time.
pub const MAX_NAMES: usize = 65_536;

/// A name that nobody has asked for in this time, and nothing of which is in use, is given up.
pub const IDLE_LIFE: Duration = Duration::from_secs(600);

/// "Does not exist" is believed for this long; then the next who asks has it asked anew. A name that nobody asks for in that
/// time is given up, and earlier where its place is needed.
pub const MISSING_LIFE: Duration = Duration::from_secs(30);

/// How many names of nothing are given up at a time to make room.
pub const ROOM: usize = MAX_NAMES / 16;

/// Where there was no room to be made, it is not looked for again for this long: it takes a look at every name.
pub const NO_ROOM_LIFE: Duration = Duration::from_secs(1);

/// The wildcard. A first request that both subscribes to and withdraws it asks for nothing yet.
pub(super) const WILDCARD: &str = "*";

/// What is known of a name that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It was answered: there is such a resource (possibly one that was not accepted).
    Exists,
    /// It was answered: there is no such resource.
    Missing,
    /// It is asked for; it will be among [`super::Answer::answered`].
    Asked,
    /// There are [`MAX_NAMES`] names already; [`super::State::make_room`] gives up some of them, if any can be.
    Full,
}

/// The names of one type.
#[derive(Debug, Default)]
pub(super) struct OnDemand {
    names: BTreeMap<String, Name>,
    /// The names that do not exist and lead to nothing, those that have not for the longest time first. Whoever scans
    /// addresses makes as many of them as there is room for, so they make room for others.
    missing: BTreeSet<(Instant, String)>,
    /// When there was no room to be made.
    no_room: Option<Instant>,
    /// By resource, the names that led to it.
    led_by: BTreeMap<String, BTreeSet<String>>,
    /// To be told to the control plane on this stream.
    subscribe: BTreeSet<String>,
    withdraw: BTreeSet<String>,
}

#[derive(Debug)]
struct Name {
    known: Known,
    used: Instant,
    leads_to: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Pending,
    Exists,
    Missing { since: Instant },
}

impl OnDemand {
    /// Notes that `name` is wanted.
    pub(super) fn want(&mut self, name: &str, now: Instant) -> Want {
        if let Some(known) = self.names.get_mut(name) {
            known.used = now;
            return match known.known {
                Known::Pending => Want::Asked,
                Known::Exists => Want::Exists,
                Known::Missing { since } if now.saturating_duration_since(since) < MISSING_LIFE => {
                    Want::Missing
                }
                Known::Missing { .. } => {
                    self.note(name, Known::Pending);
                    self.subscribe.insert(name.to_owned());
                    Want::Asked
                }
            };
        }
        if self.names.len() >= MAX_NAMES {
            return Want::Full;
        }
        let fresh = Name {
            known: Known::Pending,
            used: now,
            leads_to: BTreeSet::new(),
        };
        self.names.insert(name.to_owned(), fresh);
        self.withdraw.remove(name);
        self.subscribe.insert(name.to_owned());
        Want::Asked
    }

    /// Gives up names that do not exist and lead to nothing, [`ROOM`] of them at most, unless `in_use` says that one is.
    /// Returns whether there is room. No resource is lost by it: such a name is only asked for again.
    pub(super) fn make_room<F: Fn(&str) -> bool>(
        &mut self,
        now: Instant,
        in_use: impl FnOnce() -> F,
    ) -> bool {
        if self.names.len() < MAX_NAMES {
            return true;
        }
        let just_looked = |at: Instant| now.saturating_duration_since(at) < NO_ROOM_LIFE;
        if self.missing.is_empty() || self.no_room.is_some_and(just_looked) {
            return false;
        }
        let in_use = in_use();
        let unused = self.missing.iter().map(|(_, text)| text);
        let unused: Vec<String> = unused.filter(|text| !in_use(text)).take(ROOM).cloned().collect();
        for text in &unused {
            self.forget(text);
        }
        self.no_room = unused.is_empty().then_some(now);
        !unused.is_empty()
    }

    /// A resource has come; gives the names that it answers and that were not answered yet.
    pub(super) fn came(&mut self, resource: &str, aliases: &[String]) -> Vec<String> {
        let mut answered = Vec::new();
        for name in std::iter::once(resource).chain(aliases.iter().map(String::as_str)) {
            let Some(known) = self.names.get_mut(name) else {
                continue;
            };
            if known.known == Known::Pending {
                answered.push(name.to_owned());
            }
            known.leads_to.insert(resource.to_owned());
            self.note(name, Known::Exists);
            let names = self.led_by.entry(resource.to_owned()).or_default();
            names.insert(name.to_owned());
        }
        answered
    }

    /// A resource or name does not exist; gives the names that this answers.
    pub(super) fn gone(&mut self, removed: &str, now: Instant) -> Vec<String> {
        let mut answered = Vec::new();
        if let Some(known) = self.names.get(removed) {
            if known.known == Known::Pending {
                answered.push(removed.to_owned());
            }
            self.note(removed, Known::Missing { since: now });
        }
        for name in self.led_by.remove(removed).unwrap_or_default() {
            let Some(known) = self.names.get_mut(&name) else {
                continue;
            };
            known.leads_to.remove(removed);
            if !known.leads_to.is_empty() {
                continue;
            }
            match known.known {
                Known::Exists => self.note(&name, Known::Missing { since: now }),
                // It leads to nothing from here on.
                Known::Missing { since } => self.note(&name, Known::Missing { since }),
                Known::Pending => {}
            }
        }
        answered
    }

    /// The names to subscribe to on a new stream, the wildcard first. Nothing else is to be told then.
    pub(super) fn all(&mut self) -> Vec<String> {
        self.subscribe.clear();
        self.withdraw.clear();
        let wildcard = std::iter::once(WILDCARD.to_owned());
        wildcard.chain(self.names.keys().cloned()).collect()
    }

    /// Whether [`OnDemand::unsent`] has something.
    pub(super) fn has_unsent(&self) -> bool {
        !self.subscribe.is_empty() || !self.withdraw.is_empty()
    }

    /// What to subscribe to and what to withdraw, which counts as told from here on.
    pub(super) fn unsent(&mut self) -> (Vec<String>, Vec<String>) {
        let subscribe = std::mem::take(&mut self.subscribe);
        let withdraw = std::mem::take(&mut self.withdraw);
        (subscribe.into_iter().collect(), withdraw.into_iter().collect())
    }

    /// The names without an answer.
    pub(super) fn pending(&self) -> impl Iterator<Item = &String> {
        let pending = self.names.iter().filter(|(_, name)| name.known == Known::Pending);
        pending.map(|(name, _)| name)
    }

    /// Gives up what nobody has asked for in [`IDLE_LIFE`], unless `in_use` says that a name or what it led to is.
    /// The resources that no name leads to any more are returned.
    pub(super) fn give_up_idle(&mut self, now: Instant, in_use: impl Fn(&str) -> bool) -> Vec<String> {
        let idle = |(text, name): &(&String, &Name)| {
            let life = match name.known {
                Known::Missing { .. } => MISSING_LIFE,
                Known::Pending | Known::Exists => IDLE_LIFE,
            };
            now.saturating_duration_since(name.used) >= life
                && !in_use(text)
                && !name.leads_to.iter().any(|resource| in_use(resource))
        };
        let names: Vec<String> = self
            .names
            .iter()
            .filter(idle)
            .map(|(text, _)| text.clone())
            .collect();
        names.iter().flat_map(|text| self.forget(text)).collect()
    }

    /// Gives up a name. The resources that no name leads to any more are returned.
    fn forget(&mut self, text: &str) -> Vec<String> {
        let mut orphans = Vec::new();
        let Some(name) = self.names.remove(text) else {
            return orphans;
        };
        if let Known::Missing { since } = name.known {
            self.missing.remove(&(since, text.to_owned()));
        }
        for resource in name.leads_to {
            let Some(names) = self.led_by.get_mut(&resource) else {
                continue;
            };
            names.remove(text);
            if names.is_empty() {
                self.led_by.remove(&resource);
                self.withdraw.insert(resource.clone());
                orphans.push(resource);
            }
        }
        self.subscribe.remove(text);
        self.withdraw.insert(text.to_owned());
        orphans
    }

    /// Notes what is known of a name that is wanted.
    fn note(&mut self, text: &str, known: Known) {
        let Some(name) = self.names.get_mut(text) else {
            return;
        };
        let before = std::mem::replace(&mut name.known, known);
        if let Known::Missing { since } = before {
            self.missing.remove(&(since, text.to_owned()));
        }
        let leads_nowhere = name.leads_to.is_empty();
        if let Known::Missing { since } = known
            && leads_nowhere
        {
            self.missing.insert((since, text.to_owned()));
        }
    }
}
