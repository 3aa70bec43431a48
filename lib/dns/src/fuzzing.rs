//! Messages on a stream as a function of bytes, for the fuzz target.

use crate::framing::{MessageReader, write_message};

/// Reads messages until the stream ends; returns whether it ended between two. What was read is written again the
/// same.
pub async fn framing(stream: &[u8]) -> bool {
    let mut reader = MessageReader::new(stream);
    let mut written = Vec::new();
    let whole = loop {
        match reader.next().await {
            Ok(Some(message)) => {
                let outcome = write_message(&mut written, &message).await;
                assert!(outcome.is_ok(), "there is room in memory");
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(stream.starts_with(&written));
    assert_eq!(whole, written.len() == stream.len());
    whole
}
