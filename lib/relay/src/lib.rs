//! Moves bytes between two ends until both directions have closed, or one side is reset.
//!
//! An [`End`] is a kernel TCP socket ([`TcpEnd`]) or a stream of a tunnel (`hbone::Tunnel`). [`relay`] drives two
//! of them in one task with static dispatch: chunks travel as [`bytes::Bytes`] and are not copied on the way.
//!
//! - Each direction closes on its own: the end of one side's bytes becomes FIN or END_STREAM on the other side,
//!   and the opposite direction goes on.
//! - A reset of one side resets the other in both directions at once (RFC 9113 §8.5).
//! - An idle connection holds no buffer: one is borrowed from the thread's pool when bytes are there to be read.
//! - Nothing is read before the other side has room for it, so at most one chunk waits in a direction.
//!
//! What it deliberately is not: a protocol, a dialler, a policy or a log. It sets no deadline and no socket option
//! (use `TCP_NODELAY`); whoever wants to end a relay passes a future to [`relay_until`].

mod buffers;
mod chunks;
mod counters;
mod end;
mod outcome;
mod relay;
mod tcp;

pub use chunks::{Chunks, MAX_CHUNKS};
pub use counters::Counters;
pub use end::{End, Fault, Read};
pub use outcome::{Ended, Reason, Side};
pub use relay::{relay, relay_until};
pub use tcp::TcpEnd;

/// The most bytes that one turn of a direction moves: the size of the largest borrowed buffer.
pub const MAX_CHUNK_BYTES: usize = buffers::LARGE;
