use std::fmt;

use crate::Fault;

/// One of the two ends given to [`crate::relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first end.
    A,
    /// The second end.
    B,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// How a relay ended, and what it moved.
#[derive(Debug)]
pub struct Ended {
    /// Who ended it, and how.
    pub reason: Reason,
    /// Bytes that the second end took from the first.
    pub a_to_b: u64,
    /// Bytes that the first end took from the second.
    pub b_to_a: u64,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum Reason {
    /// Both sides sent all they had and closed their direction.
    Closed,
    /// This side was reset by its peer; the other side was reset in turn.
    ResetBy(Side, Fault),
    /// The connection of this side failed without its peer asking for it (timeout, lost tunnel); the other side was
    /// reset in turn.
    Failed(Side, Fault),
    /// The owner's future completed first (see [`crate::relay_until`]); both sides were reset.
    Cancelled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by both sides"),
            Self::ResetBy(side, fault) => write!(f, "side {side} was reset: {fault}"),
            Self::Failed(side, fault) => write!(f, "side {side} failed: {fault}"),
            Self::Cancelled => f.write_str("ended by its owner"),
        }
    }
}
