//! Answers with bounds: on their size, and on how long a server may say nothing in the middle of one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

/// The largest answer, in bytes. A page of the largest objects that etcd takes has half of that.
const MAX_ANSWER_BYTES: usize = 1024 * 1024 * 1024;
/// The largest event of a watch, in bytes. etcd takes objects of 1.5 MiB, and JSON may double that.
const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;
/// How long a server may pause in an answer that is no watch.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// A body that fails where it goes beyond its bounds.
pub(crate) struct Bounded {
    inner: Incoming,
    is_watch: bool,
    /// Bytes of the answer, or of the event (a line) that is arriving.
    size: usize,
    silence: Pin<Box<Sleep>>,
}

/// The server's answer goes beyond a bound, or broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the server sent nothing for {} seconds in the middle of its answer", .0.as_secs())]
    Silent(Duration),
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl Bounded {
    pub(crate) fn new(inner: Incoming, is_watch: bool) -> Bounded {
        Bounded {
            inner,
            is_watch,
            size: 0,
            silence: Box::pin(tokio::time::sleep(MAX_SILENCE)),
        }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let limit = if self.is_watch {
            MAX_EVENT_BYTES
        } else {
            MAX_ANSWER_BYTES
        };
        self.size = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) if self.is_watch => bytes.len() - end - 1,
            _ => self.size + bytes.len(),
        };
        if self.size > limit {
            return Err(BodyError::TooLarge(limit));
        }
        Ok(())
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.as_mut().reset(Instant::now() + MAX_SILENCE);
                let counted = frame.data_ref().map_or(Ok(()), |bytes| this.count(bytes));
                Poll::Ready(Some(counted.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            // A watch may be silent; who reads it knows for how long.
            Poll::Pending if this.is_watch => Poll::Pending,
            Poll::Pending => {
                ready!(this.silence.as_mut().poll(context));
                Poll::Ready(Some(Err(BodyError::Silent(MAX_SILENCE))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
