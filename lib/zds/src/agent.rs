//! The agent's end of one connection.
//!
//! ```text
//!  new ──▶ waiting for hello ──hello──▶ snapshot: Add*, Keep* ──▶ SnapshotSent ──ack──▶ incremental: Add, Del
//! ```
//!
//! Requests are queued at any time; [`Connection::next_request`] gives them out one by one, the next one only after
//! the answer to the one before. The queue holds at most one removal and one addition for each pod.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::frame::{FrameError, PodInfo, Request, decode_answer, decode_hello, encode_request};
use crate::{ANSWER_DEADLINE, MAX_RECORD};

#[cfg(test)]
mod tests;

/// One pod of the snapshot that a new connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPod {
    /// The agent has a descriptor of the pod's network namespace.
    Add {
        /// The pod's uid.
        uid: String,
        /// Who the pod is.
        info: PodInfo,
    },
    /// The agent knows that the pod exists, but has no descriptor of its network namespace.
    Keep {
        /// The pod's uid.
        uid: String,
    },
}

/// A record to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The record.
    pub bytes: Vec<u8>,
    /// The uid of the pod whose network namespace's descriptor goes along with the record, if one does.
    pub descriptor_of: Option<String>,
}

/// What the agent learns from the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The proxy has said hello; requests can be sent.
    Ready,
    /// The proxy has answered an addition. After an error a proxy keeps trying by itself.
    Added {
        /// The pod's uid.
        uid: String,
        /// What it said.
        result: Result<(), String>,
    },
    /// The proxy has answered for a pod that it was to keep.
    Kept {
        /// The pod's uid.
        uid: String,
        /// What it said.
        result: Result<(), String>,
    },
    /// The proxy has answered a removal.
    Removed {
        /// The pod's uid.
        uid: String,
        /// What it said.
        result: Result<(), String>,
    },
    /// The proxy has taken over the snapshot: it serves exactly the pods named so far.
    SnapshotTaken {
        /// What it said.
        result: Result<(), String>,
    },
}

/// Why the connection has to be closed. The proxy is at fault; it connects again by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// A record that is not understood.
    #[error("node proxy: {0}")]
    Frame(#[from] FrameError),
    /// A record arrived that answers nothing.
    #[error("node proxy: it answered although nothing was asked")]
    UnaskedAnswer,
    /// The proxy did not say hello or did not answer within [`ANSWER_DEADLINE`].
    #[error(
        "node proxy: no {awaited} within {seconds} s; look at the node proxy's log for what it is busy with",
        seconds = ANSWER_DEADLINE.as_secs()
    )]
    TooLate {
        /// What was waited for.
        awaited: &'static str,
    },
}

/// The agent's end of one connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    queue: VecDeque<Request>,
    /// Pods that the proxy has been told of and not been told to remove.
    told: BTreeSet<String>,
}

#[derive(Debug)]
enum Phase {
    AwaitHello { since: Instant },
    Idle,
    AwaitAnswer { to: Request, since: Instant },
}

impl Connection {
    /// A connection that has just been accepted, and the pods that the agent knows.
    pub fn new(snapshot: impl IntoIterator<Item = SnapshotPod>, now: Instant) -> Self {
        let mut queue: VecDeque<Request> = snapshot
            .into_iter()
            .map(|pod| match pod {
                SnapshotPod::Add { uid, info } => Request::Add { uid, info },
                SnapshotPod::Keep { uid } => Request::Keep { uid },
            })
            .collect();
        queue.push_back(Request::SnapshotSent);
        Self {
            phase: Phase::AwaitHello { since: now },
            queue,
            told: BTreeSet::new(),
        }
    }

    /// A pod joins, or has got a new network namespace. Fails when the pod's names don't fit in a record: that
    /// pod cannot be served, the connection is untouched.
    pub fn add(&mut self, uid: &str, info: PodInfo) -> Result<(), FrameError> {
        let request = Request::Add {
            uid: uid.to_owned(),
            info,
        };
        encode_request(&request)?;
        // The newest addition is the true one; a removal that waits before it stays, since the proxy may be
        // serving an earlier life of that pod.
        let waiting = self.queue.iter_mut().find(|queued| {
            queued.uid() == Some(uid) && matches!(queued, Request::Add { .. } | Request::Keep { .. })
        });
        match waiting {
            Some(waiting) => *waiting = request,
            None => self.queue.push_back(request),
        }
        Ok(())
    }

    /// A pod leaves. Says whether the proxy will be told: when it has never heard of the pod, there is nothing to
    /// tell and no [`Event::Removed`] follows.
    pub fn remove(&mut self, uid: &str) -> bool {
        let removal_waits = self
            .queue
            .iter()
            .any(|queued| matches!(queued, Request::Del { uid: of } if of == uid));
        self.queue
            .retain(|queued| queued.uid() != Some(uid) || matches!(queued, Request::Del { .. }));
        if removal_waits {
            return true;
        }
        if !self.told.contains(uid) {
            return false;
        }
        self.queue.push_back(Request::Del { uid: uid.to_owned() });
        true
    }

    /// The next record to send, when the proxy is ready for one. The caller sends it at once.
    ///
    /// A pod of the snapshot whose names don't fit in a record is reported as [`Event::Added`] with an error, in
    /// place of a record.
    pub fn next_request(&mut self, now: Instant) -> Option<Result<Outgoing, Event>> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        let request = self.queue.pop_front()?;
        let bytes = match encode_request(&request) {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(answered(request, Err(error.to_string())))),
        };
        let descriptor_of = match &request {
            Request::Add { uid, .. } => {
                self.told.insert(uid.clone());
                Some(uid.clone())
            }
            Request::Keep { uid } => {
                self.told.insert(uid.clone());
                None
            }
            Request::Del { uid } => {
                self.told.remove(uid);
                None
            }
            Request::SnapshotSent => None,
        };
        self.phase = Phase::AwaitAnswer {
            to: request,
            since: now,
        };
        Some(Ok(Outgoing { bytes, descriptor_of }))
    }

    /// The request just given out could not be sent along with its descriptor, because the pod's namespace is gone.
    /// The pod is forgotten and the connection goes on with the next request.
    pub fn abandon_request(&mut self) {
        if let Phase::AwaitAnswer { to, .. } = &self.phase {
            if let Some(uid) = to.uid() {
                self.told.remove(uid);
            }
            self.phase = Phase::Idle;
        }
    }

    /// A record from the proxy.
    pub fn received(&mut self, record: &[u8]) -> Result<Event, ConnectionError> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::AwaitHello { since } => {
                if let Err(error) = decode_hello(record) {
                    self.phase = Phase::AwaitHello { since };
                    return Err(error.into());
                }
                Ok(Event::Ready)
            }
            Phase::Idle => Err(ConnectionError::UnaskedAnswer),
            Phase::AwaitAnswer { to, since } => match decode_answer(record) {
                Ok(result) => Ok(answered(to, result)),
                Err(error) => {
                    self.phase = Phase::AwaitAnswer { to, since };
                    Err(error.into())
                }
            },
        }
    }

    /// When [`Connection::check_deadline`] has to be called, if anything is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::AwaitHello { since } | Phase::AwaitAnswer { since, .. } => Some(*since + ANSWER_DEADLINE),
            Phase::Idle => None,
        }
    }

    /// Fails when the proxy has let the deadline pass.
    pub fn check_deadline(&self, now: Instant) -> Result<(), ConnectionError> {
        let awaited = match &self.phase {
            Phase::AwaitHello { .. } => "hello",
            Phase::AwaitAnswer { .. } => "answer to a request",
            Phase::Idle => return Ok(()),
        };
        match self.deadline() {
            Some(deadline) if now >= deadline => Err(ConnectionError::TooLate { awaited }),
            _ => Ok(()),
        }
    }

    /// How many requests wait to be sent.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits: no request to be sent, no answer to come.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && matches!(self.phase, Phase::Idle)
    }

    /// The largest record that a receiver has to make room for.
    pub const fn receive_buffer() -> usize {
        MAX_RECORD
    }
}

fn answered(request: Request, result: Result<(), String>) -> Event {
    match request {
        Request::Add { uid, .. } => Event::Added { uid, result },
        Request::Keep { uid } => Event::Kept { uid, result },
        Request::Del { uid } => Event::Removed { uid, result },
        Request::SnapshotSent => Event::SnapshotTaken { result },
    }
}
