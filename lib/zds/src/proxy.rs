//! The proxy's end of one connection.
//!
//! A mistake of the agent never ends the proxy: a request that is whole but wrong is refused by name and the
//! connection goes on; after one that is not understood the connection is dropped, pods that are served stay served,
//! and the next connection begins with a new snapshot.

use std::collections::BTreeSet;

use crate::frame::{FrameError, PodInfo, Request, decode_request, encode_answer, encode_hello};
use crate::{MAX_RECORD, MAX_SNAPSHOT_PODS};

#[cfg(test)]
mod tests;

/// What the agent asks for. Each is to be answered by [`Connection::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Serve this pod; the one descriptor that came with the record is its network namespace. When a pod of that
    /// uid is already served in another namespace, it is replaced.
    Add {
        /// The pod's uid.
        uid: String,
        /// Who the pod is.
        info: PodInfo,
    },
    /// Go on serving this pod, if it is served.
    Keep {
        /// The pod's uid.
        uid: String,
    },
    /// Stop serving this pod.
    Del {
        /// The pod's uid.
        uid: String,
    },
    /// Every pod of the node has been named: those not in `named` are gone.
    SnapshotSent {
        /// The uids that were added or kept in this connection, without those removed again.
        named: BTreeSet<String>,
    },
}

/// What to do about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Do it, then answer.
    Event(Event),
    /// The request is wrong. Send `answer`, close any descriptors that came along, log `violation`, go on.
    Refused {
        /// The record to send.
        answer: Vec<u8>,
        /// What was wrong.
        violation: Violation,
    },
}

/// A request that breaks the protocol. The agent is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An incomplete request.
    #[error("node agent: {0}")]
    Frame(#[from] FrameError),
    /// An addition must carry one descriptor, everything else none.
    #[error("node agent: {request} came with {found} file descriptors, it must carry {expected}")]
    Descriptors {
        /// The message.
        request: &'static str,
        /// How many came.
        found: usize,
        /// How many it must be.
        expected: usize,
    },
    /// `SnapshotSent` came twice.
    #[error("node agent: it sent SnapshotSent a second time in one connection")]
    SecondSnapshot,
    /// `KeepWorkload` came after `SnapshotSent`.
    #[error("node agent: KeepWorkload for pod uid {uid:?} came after SnapshotSent")]
    KeepAfterSnapshot {
        /// The pod's uid.
        uid: String,
    },
    /// The snapshot names more than [`MAX_SNAPSHOT_PODS`] pods.
    #[error("node agent: the snapshot names more than {MAX_SNAPSHOT_PODS} pods")]
    TooManyPods,
}

/// Why the connection has to be dropped and made anew. The agent is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A record that is too long or no protobuf of the right kind.
    #[error("node agent: {0}")]
    Frame(#[from] FrameError),
    /// A request came before the one before was answered.
    #[error("node agent: it sent a request before the one before was answered")]
    Unanswered,
}

/// The proxy's end of one connection.
#[derive(Debug, Default)]
pub struct Connection {
    snapshot_taken: bool,
    answer_due: bool,
    named: BTreeSet<String>,
}

impl Connection {
    /// A connection that has just been made, and the record to send first.
    pub fn new() -> (Self, Vec<u8>) {
        (Self::default(), encode_hello())
    }

    /// A record from the agent and the number of descriptors that came with it.
    pub fn received(&mut self, record: &[u8], descriptors: usize) -> Result<Received, ProtocolError> {
        if self.answer_due {
            return Err(ProtocolError::Unanswered);
        }
        let request = match decode_request(record) {
            Ok(request) => request,
            Err(error) if error.is_refusable() => return Ok(refuse(error.into())),
            Err(error) => return Err(error.into()),
        };
        match self.event(request, descriptors) {
            Ok(event) => {
                self.answer_due = true;
                Ok(Received::Event(event))
            }
            Err(violation) => Ok(refuse(violation)),
        }
    }

    /// The answer to the last event, to be sent at once. Nothing when no answer is due.
    pub fn answer(&mut self, result: Result<(), &str>) -> Option<Vec<u8>> {
        std::mem::take(&mut self.answer_due).then(|| encode_answer(result))
    }

    /// Whether the agent has named every pod of the node.
    pub fn snapshot_taken(&self) -> bool {
        self.snapshot_taken
    }

    /// The largest record that a receiver has to make room for.
    pub const fn receive_buffer() -> usize {
        MAX_RECORD
    }

    fn event(&mut self, request: Request, descriptors: usize) -> Result<Event, Violation> {
        let (name, expected) = match &request {
            Request::Add { .. } => ("AddWorkload", 1),
            Request::Keep { .. } => ("KeepWorkload", 0),
            Request::Del { .. } => ("DelWorkload", 0),
            Request::SnapshotSent => ("SnapshotSent", 0),
        };
        if descriptors != expected {
            return Err(Violation::Descriptors {
                request: name,
                found: descriptors,
                expected,
            });
        }
        match request {
            Request::Add { uid, info } => {
                self.name(&uid)?;
                Ok(Event::Add { uid, info })
            }
            Request::Keep { uid } if self.snapshot_taken => Err(Violation::KeepAfterSnapshot { uid }),
            Request::Keep { uid } => {
                self.name(&uid)?;
                Ok(Event::Keep { uid })
            }
            Request::Del { uid } => {
                self.named.remove(&uid);
                Ok(Event::Del { uid })
            }
            Request::SnapshotSent if self.snapshot_taken => Err(Violation::SecondSnapshot),
            Request::SnapshotSent => {
                self.snapshot_taken = true;
                Ok(Event::SnapshotSent {
                    named: std::mem::take(&mut self.named),
                })
            }
        }
    }

    /// Notes a pod of the snapshot; afterwards there is nothing left to note.
    fn name(&mut self, uid: &str) -> Result<(), Violation> {
        if self.snapshot_taken {
            return Ok(());
        }
        if self.named.len() >= MAX_SNAPSHOT_PODS && !self.named.contains(uid) {
            return Err(Violation::TooManyPods);
        }
        self.named.insert(uid.to_owned());
        Ok(())
    }
}

fn refuse(violation: Violation) -> Received {
    Received::Refused {
        answer: encode_answer(Err(&violation.to_string())),
        violation,
    }
}
