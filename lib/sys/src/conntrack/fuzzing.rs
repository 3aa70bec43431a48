//! The kernel's answers as a function of bytes, for the fuzz target.

use super::{Answer, answer};

/// Reads one datagram that answers the question with this number; returns whether it names a destination.
pub fn original_destination(datagram: &[u8], sequence: u32) -> bool {
    match answer(datagram, sequence) {
        Ok(Answer::Error(errno)) => {
            assert!(errno >= 0, "errno {errno}");
            false
        }
        outcome => matches!(outcome, Ok(Answer::Original(_))),
    }
}
