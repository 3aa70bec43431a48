//! Callers whose tokens were accepted a moment ago. Pure: the time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest as digests;
use ca::Caller;

/// How long an accepted token is accepted without asking again. A pod that was deleted is refused earlier, as soon
/// as the control plane has seen that it is gone.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// The same for a token that does not say when it ends.
const FRESH_WITHOUT_END: Duration = Duration::from_secs(10);
/// How many are remembered: a token each for as many node proxies and as many pods. The oldest goes first.
pub(super) const MAX_ANSWERS: usize = 8192;

/// Of a token: nothing secret is kept.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digests::digest(&digests::SHA256, token.as_bytes()).as_ref());
    bytes
}

/// By digest.
#[derive(Default)]
pub(super) struct Answers {
    known: HashMap<Digest, Answer>,
    by_end: BTreeSet<(Instant, Digest)>,
}

struct Answer {
    caller: Caller,
    /// Until when it need not be asked again.
    until: Instant,
    /// The token's own end, by the clock on the wall.
    expires: Option<SystemTime>,
}

impl Answers {
    /// Who holds the token, if that was found out a moment ago.
    pub(super) fn get(&mut self, digest: &Digest, (now, wall): (Instant, SystemTime)) -> Option<Caller> {
        let answer = self.known.get(digest)?;
        if answer.until <= now || answer.expires.is_some_and(|expires| expires <= wall) {
            self.remove(digest);
            return None;
        }
        Some(answer.caller.clone())
    }

    /// This caller was found to hold the token, which ends then.
    pub(super) fn put(
        &mut self,
        digest: Digest,
        caller: Caller,
        expires: Option<SystemTime>,
        (now, _): (Instant, SystemTime),
    ) {
        self.remove(&digest);
        while let Some((until, oldest)) = self.by_end.first().copied()
            && (until <= now || self.known.len() >= MAX_ANSWERS)
        {
            self.remove(&oldest);
        }
        let until = now
            + if expires.is_some() {
                FRESH
            } else {
                FRESH_WITHOUT_END
            };
        self.by_end.insert((until, digest));
        let answer = Answer {
            caller,
            until,
            expires,
        };
        self.known.insert(digest, answer);
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(answer) = self.known.remove(digest) {
            self.by_end.remove(&(answer.until, *digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            pod_name: name.to_owned(),
            pod_uid: "uid".to_owned(),
            node: "node-a".to_owned(),
        }
    }

    #[test]
    fn an_answer_is_good_for_a_short_time_and_never_beyond_the_tokens_end() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let at = |seconds| {
            let later = Duration::from_secs(seconds);
            (start + later, wall + later)
        };
        let mut answers = Answers::default();
        let (long, short, endless) = (digest("long"), digest("short"), digest("endless"));
        let end = |seconds| Some(wall + Duration::from_secs(seconds));
        answers.put(long, caller("long"), end(3600), at(0));
        answers.put(short, caller("short"), end(7), at(0));
        answers.put(endless, caller("endless"), None, at(0));
        assert_eq!(answers.get(&long, at(29)), Some(caller("long")));
        assert_eq!(answers.get(&short, at(6)), Some(caller("short")));
        assert_eq!(answers.get(&short, at(7)), None);
        assert_eq!(answers.get(&endless, at(9)), Some(caller("endless")));
        assert_eq!(answers.get(&endless, at(10)), None);
        assert_eq!(answers.get(&long, at(30)), None);
        assert_eq!(answers.get(&digest("other"), at(0)), None);
        // A clock that jumps ahead ends the token, one that jumps back does not prolong the answer.
        answers.put(long, caller("long"), end(3600), at(0));
        assert_eq!(
            answers.get(&long, (start, wall + Duration::from_secs(3600))),
            None
        );
        answers.put(long, caller("long"), end(3600), at(0));
        assert_eq!(
            answers.get(&long, (start + FRESH, wall - Duration::from_secs(3600))),
            None
        );
        assert!(answers.known.is_empty() && answers.by_end.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut answers = Answers::default();
        let count = MAX_ANSWERS + 100;
        let name = |number: usize| digest(&number.to_string());
        for number in 0..count {
            let now = (start + Duration::from_nanos(number as u64), wall);
            answers.put(name(number), caller("x"), None, now);
        }
        assert_eq!(answers.known.len(), MAX_ANSWERS);
        assert_eq!(answers.by_end.len(), MAX_ANSWERS);
        assert!(answers.get(&name(99), (start, wall)).is_none());
        assert!(answers.get(&name(count - 1), (start, wall)).is_some());
        // Those that are over make room at once.
        answers.put(name(0), caller("x"), None, (start + FRESH, wall));
        assert_eq!(answers.known.len(), 1);
    }
}
