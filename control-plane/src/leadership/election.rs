//! Who holds the lease, without I/O: answers of the API, the time and entropy go in, requests come out.
//!
//! As in Kubernetes' own clients, no clock of another machine is believed: whether a lease is over is judged by how
//! long this process has seen it unchanged, on its own monotonic clock. A holder counts its term from before it sent
//! the write that renewed it, so it stops before anybody else may begin, as long as clocks run at nearly the same
//! speed ([`Timing::renew_deadline`] to [`Timing::lease`]).

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The longest that the lease of another is respected without a change, whatever it says itself.
pub(super) const MAX_FOREIGN_LEASE: Duration = Duration::from_secs(600);

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long others wait for a holder that gives no sign.
    pub(crate) lease: Duration,
    /// How long a holder goes on without having renewed; shorter than the lease.
    pub(crate) renew_deadline: Duration,
    /// The pause between attempts.
    pub(crate) retry: Duration,
}

impl Default for Timing {
    /// As Kubernetes' own controllers have it.
    fn default() -> Timing {
        Timing {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A lease as the API has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: given back.
    pub(super) holder: String,
    pub(super) duration: Duration,
    pub(super) acquired: String,
    pub(super) renewed: String,
    pub(super) transitions: i64,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// When the term began; now, where there is none.
    pub(super) acquired: Option<String>,
    pub(super) transitions: i64,
}

/// What to ask the API for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Read,
    /// There must be none.
    Create(Claim),
    /// It must be what was read last.
    Replace(Claim),
}

/// What the API said.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// To a read; there is none, or this one.
    Read(Option<Record>),
    /// To a write: it is so now.
    Written(Record),
    /// To a write: it is not as it was read.
    Conflict,
    /// There was none, or it was not to the point. A write may have happened.
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Ask),
    Wait(Instant),
}

pub(super) struct Election {
    identity: String,
    timing: Timing,
    /// The lease as it was seen last, and since when it has been so.
    seen: Option<(Record, Instant)>,
    next: Ask,
    not_before: Instant,
    /// The end of this process's term; it may be over.
    until: Option<Instant>,
}

impl Election {
    /// `identity` must be unlike that of every other process, an earlier one of the same pod included.
    pub(super) fn new(identity: String, timing: Timing, now: Instant) -> Election {
        Election {
            identity,
            timing,
            seen: None,
            next: Ask::Read,
            not_before: now,
            until: None,
        }
    }

    /// What to do now.
    pub(super) fn step(&self, now: Instant) -> Step {
        if now < self.not_before {
            Step::Wait(self.not_before)
        } else {
            Step::Ask(self.next.clone())
        }
    }

    /// Takes the answer to what [`Election::step`] asked for at `sent`.
    pub(super) fn answer(&mut self, answer: Answer, sent: Instant, now: Instant, entropy: u64) {
        match answer {
            Answer::Read(None) => {
                (self.seen, self.until) = (None, None);
                let claim = Claim {
                    acquired: None,
                    transitions: 0,
                };
                self.ask(Ask::Create(claim), now);
            }
            Answer::Read(Some(record)) => self.read(record, now, entropy),
            Answer::Written(record) => {
                self.until = Some(sent + self.timing.renew_deadline);
                let claim = self.claim(&record);
                self.seen = Some((record, now));
                self.ask(Ask::Replace(claim), sent + self.timing.retry);
            }
            // Somebody was quicker, or has only touched it.
            Answer::Conflict => self.ask(Ask::Read, now + self.jittered(self.timing.retry / 8, entropy)),
            Answer::Failed => self.ask(Ask::Read, now + self.jittered(self.timing.retry, entropy)),
        }
    }

    /// Until when this process leads, if that is not over.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Who held the lease when it was seen last.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str())
    }

    fn read(&mut self, record: Record, now: Instant, entropy: u64) {
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => now,
        };
        let respected = record.duration.clamp(self.timing.lease, MAX_FOREIGN_LEASE);
        let is_mine = record.holder == self.identity;
        let is_free = record.holder.is_empty() || now >= since + respected;
        if !is_mine {
            self.until = None;
        }
        if is_mine || is_free {
            let claim = self.claim(&record);
            self.ask(Ask::Replace(claim), now);
        } else {
            self.ask(Ask::Read, now + self.jittered(self.timing.retry, entropy));
        }
        self.seen = Some((record, since));
    }

    fn claim(&self, record: &Record) -> Claim {
        if record.holder == self.identity {
            Claim {
                acquired: Some(record.acquired.clone()),
                transitions: record.transitions,
            }
        } else {
            Claim {
                acquired: None,
                transitions: record.transitions.saturating_add(1),
            }
        }
    }

    fn ask(&mut self, next: Ask, not_before: Instant) {
        (self.next, self.not_before) = (next, not_before);
    }

    /// Between one and two times as long, so that candidates do not ask in step.
    fn jittered(&self, pause: Duration, entropy: u64) -> Duration {
        let part = u32::try_from(entropy % 1024).unwrap_or_default();
        pause + pause * part / 1024
    }
}
