//! Events that are the same, as one that counts, without I/O: refusals and the time go in, writes come out.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::Notice;

/// How many different Events are remembered; of further ones none is written until an older one is forgotten.
pub(super) const MAX_SERIES: usize = 1024;
/// How long an Event is remembered after it happened last.
pub(super) const FORGET: Duration = Duration::from_secs(30 * 60);
/// How often an Event that goes on is counted up at most.
pub(super) const COUNT_UP: Duration = Duration::from_secs(60);
/// How many Events may be written at once, and how long it takes until there may be one more.
pub(super) const BURST: u32 = 25;
pub(super) const ONE_MORE: Duration = Duration::from_secs(2);
/// The longest name of an object whose Event is called after it; the rest of the name is a hash.
const MAX_NAME: usize = 200;

#[derive(Default)]
pub(super) struct Series {
    known: HashMap<Notice, One>,
    /// Those that are to be written, in the order in which they came.
    waiting: Vec<Notice>,
    /// How many writes are allowed, and since when.
    tokens: Option<(u32, Instant)>,
    dropped: u64,
}

struct One {
    count: u64,
    last: Instant,
    /// When it was written, and how often it had happened then.
    written: Option<(Instant, u64)>,
    waits: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) name: String,
    pub(super) notice: Notice,
    /// How often it happened: once makes the Event, more counts it up.
    pub(super) count: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(Write),
    Wait(Option<Instant>),
}

impl Series {
    pub(super) fn record(&mut self, notice: Notice, now: Instant) {
        if let Some(one) = self.known.get_mut(&notice) {
            (one.count, one.last) = (one.count + 1, now);
            if !one.waits {
                one.waits = true;
                self.waiting.push(notice);
            }
            return;
        }
        if self.known.len() >= MAX_SERIES {
            let waits = |one: &One| one.waits || now.saturating_duration_since(one.last) < FORGET;
            self.known.retain(|_, one| waits(one));
        }
        if self.known.len() >= MAX_SERIES {
            self.dropped += 1;
            return;
        }
        let one = One {
            count: 1,
            last: now,
            written: None,
            waits: true,
        };
        self.known.insert(notice.clone(), one);
        self.waiting.push(notice);
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        let mut soonest = None;
        let mut due = None;
        for (index, notice) in self.waiting.iter().enumerate() {
            let not_before = self
                .known
                .get(notice)
                .and_then(|one| one.written)
                .map(|(at, _)| at + COUNT_UP);
            match not_before {
                Some(at) if at > now => {
                    soonest = Some(soonest.map_or(at, |soonest: Instant| soonest.min(at)))
                }
                _ => {
                    due = Some(index);
                    break;
                }
            }
        }
        let Some(index) = due else {
            return Next::Wait(soonest);
        };
        if let Err(at) = self.take_token(now) {
            return Next::Wait(Some(at));
        }
        let notice = self.waiting.remove(index);
        let count = self.known.get_mut(&notice).map_or(1, |one| {
            one.waits = false;
            if one.written.is_some() { one.count } else { 1 }
        });
        Next::Write(Write {
            name: name(&notice),
            notice,
            count,
        })
    }

    /// `gone`: the Event is not there any more, so the next one begins anew.
    pub(super) fn written(&mut self, write: &Write, gone: bool, now: Instant) {
        if gone {
            self.known.remove(&write.notice);
            self.waiting.retain(|notice| *notice != write.notice);
            self.record(write.notice.clone(), now);
            return;
        }
        let Some(one) = self.known.get_mut(&write.notice) else {
            return;
        };
        one.written = Some((now, write.count));
        // It happened more than once before it could be written.
        if one.count > write.count && !one.waits {
            one.waits = true;
            self.waiting.push(write.notice.clone());
        }
    }

    /// How many were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Otherwise when there is one.
    fn take_token(&mut self, now: Instant) -> Result<(), Instant> {
        let (tokens, since) = self.tokens.unwrap_or((BURST, now));
        let elapsed = now.saturating_duration_since(since);
        let more = u32::try_from(elapsed.as_millis() / ONE_MORE.as_millis()).unwrap_or(u32::MAX);
        let tokens = tokens.saturating_add(more).min(BURST);
        let since = if tokens == BURST {
            now
        } else {
            since + ONE_MORE * more
        };
        self.tokens = Some((tokens.saturating_sub(1), since));
        if tokens == 0 {
            return Err(since + ONE_MORE);
        }
        Ok(())
    }
}

/// The same for the same Event, also in another process.
fn name(notice: &Notice) -> String {
    let mut hasher = DefaultHasher::new();
    notice.hash(&mut hasher);
    let object: String = notice.regarding.name.chars().take(MAX_NAME).collect();
    format!("{object}.{:016x}", hasher.finish())
}
