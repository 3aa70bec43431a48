//! The kernel's answers as a function of bytes, for the fuzz target.

use super::codec::{self, Answer};

/// Reads one datagram; returns whether it was understood. A socket that was found can be named to the kernel again.
pub fn answers(datagram: &[u8]) -> bool {
    let mut sockets = 0;
    for answer in codec::answers(datagram) {
        match answer {
            Ok(Answer::Socket(socket)) => {
                sockets += 1;
                assert_eq!(codec::destroy_request(&socket.id).len(), 72);
            }
            Ok(Answer::Error(errno)) => assert!(errno >= 0, "errno {errno}"),
            Ok(Answer::Done | Answer::Interrupted) => {}
            Err(_) => return false,
        }
    }
    assert!(sockets <= datagram.len() / 72, "each socket takes its room");
    !datagram.is_empty()
}
