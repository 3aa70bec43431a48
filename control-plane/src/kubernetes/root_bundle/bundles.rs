//! Which ConfigMap is to be written next. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::MAPS;

/// Namespaces that get nothing, as in Istio: nothing runs there.
const EXCLUDED: [&str; 2] = ["kube-node-lease", "kube-public"];
/// The pause before a second write of the same ConfigMap, doubled with each further one up to the longest. Somebody
/// else may write the same object, and must not be answered without end.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// After so long without a write the pauses begin anew.
const QUIET: Duration = Duration::from_secs(300);

/// SHA-256 of a value.
pub(super) type Digest = [u8; 32];

/// A ConfigMap as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Of the value under our key.
    pub(super) value: Option<Digest>,
    pub(super) is_labelled: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This is written.
    Written(Digest),
    Failed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write {
        map: usize,
        namespace: String,
    },
    /// Nothing before this time, or before something changes.
    Wait(Option<Instant>),
}

type Place = (usize, String);

/// All namespaces, what is found in them, and what is wanted.
#[derive(Default)]
pub(super) struct Bundles {
    wanted: [Option<Digest>; MAPS.len()],
    /// Those that are not ending.
    namespaces: Option<BTreeSet<String>>,
    found: [Option<BTreeMap<String, Found>>; MAPS.len()],
    /// What is not as it should be.
    wrong: BTreeSet<Place>,
    under_way: BTreeSet<Place>,
    attempts: BTreeMap<Place, Attempts>,
}

#[derive(Clone, Copy)]
struct Attempts {
    last: Instant,
    pause: Duration,
}

impl Bundles {
    /// This is to be in every namespace; nothing: no longer kept, but left where it is.
    pub(super) fn want(&mut self, map: usize, value: Option<Digest>) {
        if self.wanted[map] != value {
            self.wanted[map] = value;
            // A new value is no quarrel.
            self.attempts.retain(|(of, _), _| *of != map);
            self.consider_all();
        }
    }

    pub(super) fn namespaces_listed(&mut self, all: impl IntoIterator<Item = (String, bool)>) {
        let alive = all
            .into_iter()
            .filter(|(_, is_ending)| !is_ending)
            .map(|(name, _)| name);
        let alive: BTreeSet<_> = alive.collect();
        self.attempts
            .retain(|(_, namespace), _| alive.contains(namespace));
        self.namespaces = Some(alive);
        self.consider_all();
    }

    pub(super) fn namespace(&mut self, name: String, is_ending: bool) {
        if is_ending {
            return self.namespace_gone(&name);
        }
        if let Some(namespaces) = &mut self.namespaces {
            namespaces.insert(name.clone());
        }
        self.consider_namespace(&name);
    }

    pub(super) fn namespace_gone(&mut self, name: &str) {
        if let Some(namespaces) = &mut self.namespaces {
            namespaces.remove(name);
        }
        self.attempts.retain(|(_, namespace), _| namespace != name);
        self.consider_namespace(name);
    }

    pub(super) fn maps_listed(&mut self, map: usize, all: impl IntoIterator<Item = (String, Found)>) {
        self.found[map] = Some(all.into_iter().collect());
        self.consider_all();
    }

    pub(super) fn map(&mut self, map: usize, namespace: String, found: Found) {
        if let Some(known) = &mut self.found[map] {
            known.insert(namespace.clone(), found);
        }
        self.consider(map, &namespace);
    }

    pub(super) fn map_gone(&mut self, map: usize, namespace: &str) {
        if let Some(known) = &mut self.found[map] {
            known.remove(namespace);
        }
        self.consider(map, namespace);
    }

    /// What to do now. What is written is under way until [`Bundles::written`].
    pub(super) fn next(&mut self, now: Instant) -> Next {
        // Before everything is known, nothing is known to be missing.
        if self.namespaces.is_none() || self.found.iter().any(Option::is_none) {
            return Next::Wait(None);
        }
        let mut soonest: Option<Instant> = None;
        let mut due = None;
        for place in self.wrong.difference(&self.under_way) {
            let at = self
                .attempts
                .get(place)
                .map(|attempts| attempts.last + attempts.pause);
            match at {
                Some(at) if at > now => soonest = Some(soonest.map_or(at, |soonest| soonest.min(at))),
                _ => {
                    due = Some(place.clone());
                    break;
                }
            }
        }
        match due {
            Some(place) => {
                self.under_way.insert(place.clone());
                let (map, namespace) = place;
                Next::Write { map, namespace }
            }
            None => Next::Wait(soonest),
        }
    }

    pub(super) fn written(&mut self, map: usize, namespace: &str, outcome: Outcome, now: Instant) {
        let place = (map, namespace.to_owned());
        self.under_way.remove(&place);
        let pause = match self.attempts.get(&place) {
            Some(attempts) if now.saturating_duration_since(attempts.last) < QUIET => {
                (attempts.pause * 2).min(LAST_PAUSE)
            }
            _ => FIRST_PAUSE,
        };
        if self
            .namespaces
            .as_ref()
            .is_some_and(|namespaces| namespaces.contains(namespace))
        {
            self.attempts.insert(place, Attempts { last: now, pause });
        }
        if let (Outcome::Written(value), Some(known)) = (outcome, &mut self.found[map]) {
            let found = Found {
                value: Some(value),
                is_labelled: true,
            };
            known.insert(namespace.to_owned(), found);
        }
        self.consider(map, namespace);
    }

    fn consider_all(&mut self) {
        self.wrong.clear();
        for namespace in self.namespaces.iter().flatten() {
            for map in 0..MAPS.len() {
                if self.is_wrong(map, namespace) {
                    self.wrong.insert((map, namespace.clone()));
                }
            }
        }
    }

    fn consider_namespace(&mut self, namespace: &str) {
        for map in 0..MAPS.len() {
            self.consider(map, namespace);
        }
    }

    fn consider(&mut self, map: usize, namespace: &str) {
        let place = (map, namespace.to_owned());
        if self.is_wrong(map, namespace) {
            self.wrong.insert(place);
        } else {
            self.wrong.remove(&place);
        }
    }

    fn is_wrong(&self, map: usize, namespace: &str) -> bool {
        let Some(value) = self.wanted[map] else {
            return false;
        };
        let is_alive = self
            .namespaces
            .as_ref()
            .is_some_and(|namespaces| namespaces.contains(namespace));
        let right = Found {
            value: Some(value),
            is_labelled: true,
        };
        let found = self.found[map].as_ref().and_then(|found| found.get(namespace));
        is_alive && !EXCLUDED.contains(&namespace) && found != Some(&right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Digest = [1; 32];
    const OTHER: Digest = [2; 32];

    fn right(value: Digest) -> Found {
        Found {
            value: Some(value),
            is_labelled: true,
        }
    }

    fn bundles(namespaces: &[&str]) -> Bundles {
        let mut bundles = Bundles::default();
        bundles.want(0, Some(ROOT));
        bundles.namespaces_listed(namespaces.iter().map(|name| ((*name).to_owned(), false)));
        bundles.maps_listed(0, []);
        bundles.maps_listed(1, []);
        bundles
    }

    /// Writes what is due, and says where.
    fn write(bundles: &mut Bundles, value: Digest, now: Instant) -> Vec<String> {
        let mut written = Vec::new();
        while let Next::Write { map, namespace } = bundles.next(now) {
            bundles.written(map, &namespace, Outcome::Written(value), now);
            written.push(format!("{}/{namespace}", MAPS[map].0));
        }
        written
    }

    #[test]
    fn every_namespace_is_told_once() {
        let now = Instant::now();
        let mut bundles = bundles(&["default", "kube-system", "kube-public", "kube-node-lease"]);
        let told = ["istio-ca-root-cert/default", "istio-ca-root-cert/kube-system"];
        assert_eq!(write(&mut bundles, ROOT, now), told);
        // What the watch tells of our own writes, and anything else that is right, is not written.
        bundles.map(0, "default".to_owned(), right(ROOT));
        bundles.maps_listed(0, told.map(|place| (place[19..].to_owned(), right(ROOT))));
        assert_eq!(bundles.next(now), Next::Wait(None));
        bundles.namespace("new".to_owned(), false);
        bundles.namespace("ending".to_owned(), true);
        assert_eq!(write(&mut bundles, ROOT, now), ["istio-ca-root-cert/new"]);
        // A list of revoked certificates comes by, and goes.
        bundles.want(1, Some(OTHER));
        assert_eq!(write(&mut bundles, OTHER, now).len(), 3);
        bundles.want(1, None);
        assert_eq!(bundles.next(now), Next::Wait(None));
    }

    #[test]
    fn nothing_is_written_before_everything_is_known() {
        let now = Instant::now();
        let mut bundles = Bundles::default();
        bundles.want(0, Some(ROOT));
        bundles.namespaces_listed([("default".to_owned(), false)]);
        assert_eq!(bundles.next(now), Next::Wait(None));
        bundles.maps_listed(0, [("default".to_owned(), right(ROOT))]);
        bundles.maps_listed(1, []);
        assert_eq!(bundles.next(now), Next::Wait(None));
        assert!(bundles.wrong.is_empty());
    }

    #[test]
    fn whoever_writes_against_us_is_answered_ever_more_seldom() {
        let mut now = Instant::now();
        let mut bundles = bundles(&["default"]);
        write(&mut bundles, ROOT, now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            bundles.map(0, "default".to_owned(), right(OTHER));
            let Next::Wait(Some(until)) = bundles.next(now) else {
                panic!("it must wait")
            };
            pauses.push((until - now).as_secs());
            now = until;
            assert_eq!(write(&mut bundles, ROOT, now).len(), 1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += QUIET;
        bundles.map_gone(0, "default");
        assert_eq!(write(&mut bundles, ROOT, now).len(), 1);
        // New roots do not wait for an old quarrel.
        bundles.want(0, Some(OTHER));
        assert_eq!(write(&mut bundles, OTHER, now).len(), 1);
    }

    #[test]
    fn a_failure_is_tried_again_and_a_namespace_that_ends_is_left_alone() {
        let now = Instant::now();
        let mut bundles = bundles(&["default"]);
        let due = bundles.next(now);
        assert!(matches!(due, Next::Write { .. }));
        assert_eq!(bundles.next(now), Next::Wait(None), "it is under way");
        bundles.written(0, "default", Outcome::Failed, now);
        assert_eq!(bundles.next(now), Next::Wait(Some(now + FIRST_PAUSE)));
        bundles.namespace("default".to_owned(), true);
        assert_eq!(bundles.next(now + FIRST_PAUSE), Next::Wait(None));
        assert!(bundles.attempts.is_empty());
    }

    #[test]
    fn a_label_that_was_taken_away_comes_back() {
        let now = Instant::now();
        let mut bundles = bundles(&["default"]);
        write(&mut bundles, ROOT, now);
        let bare = Found {
            is_labelled: false,
            ..right(ROOT)
        };
        bundles.map(0, "default".to_owned(), bare);
        assert_eq!(write(&mut bundles, ROOT, now + FIRST_PAUSE).len(), 1);
    }
}
