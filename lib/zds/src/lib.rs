//! ZDS: how a node agent hands the pods of its node, and their network namespaces, to the node proxy.
//!
//! The two talk over a unix `SOCK_SEQPACKET` socket. The proxy connects and says hello; the agent sends one request
//! at a time and the proxy answers each. Every record is one protobuf message without any further framing, of at
//! most [`MAX_RECORD`] bytes. A request that adds a pod carries exactly one file descriptor, the pod's network
//! namespace; no other record carries any.
//!
//! [`frame`] turns records into values and back. [`agent`] and [`proxy`] are the state machines of the two ends.
//!
//! This crate deliberately opens no socket, holds no descriptor and reads no clock: the caller moves records and
//! descriptors and passes the time in. What a pod's namespace is used for is not known here either.

pub mod agent;
pub mod frame;
pub mod proxy;

pub use frame::{FrameError, PodInfo, Request};

use std::time::Duration;

/// The longest record either end sends or accepts, in bytes.
pub const MAX_RECORD: usize = 1024;

/// How long an agent waits for the proxy's hello, and for the answer to a request.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How many pods one proxy accepts in a snapshot. A node runs a few hundred at most.
pub const MAX_SNAPSHOT_PODS: usize = 4096;
