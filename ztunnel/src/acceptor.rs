//! Taking connections from a listener: a bounded number at a time, going on when descriptors run out, and losing
//! none at the end.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use sys::socket;
use telemetry::{Metrics, Reporter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Connections of one listener that may be open at once; further ones wait in its queue.
pub(crate) const MAX_CONNECTIONS: usize = 16_384;

/// Connections waiting to be accepted.
pub(crate) const BACKLOG: i32 = 1024;

/// The reason under which connections are counted that were turned away for want of a descriptor.
pub(crate) const NO_DESCRIPTORS: &str = "no_descriptors";

/// Pause after a failure to accept that waiting may mend, such as want of kernel memory.
const PAUSE: Duration = Duration::from_millis(50);

/// What one listener of a pod is served with.
#[derive(Clone)]
pub(crate) struct Acceptor {
    /// Set when no new connections are wanted: what is queued by then is still served.
    pub(crate) stop: CancellationToken,
    /// Everything that is accepted or about to be, until it is served to its end.
    pub(crate) open: TaskTracker,
    pub(crate) reserve: Reserve,
    pub(crate) metrics: Metrics,
}

impl Acceptor {
    /// Accepts until told to stop, then takes what waits in the queue and closes the listener. Each connection is
    /// served in a task of its own.
    ///
    /// Closing a listener resets what is left in its queue, unless another process listens on the same port and the
    /// kernel hands it over (`net.ipv4.tcp_migrate_req`). Either way nothing that was queued is lost.
    pub(crate) fn serve<F, S>(&self, listener: TcpListener, reporter: Reporter, serve: F)
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        self.open.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = this.stop.cancelled() => break,
                    accepted = this.next(&listener, &slots, reporter) => accepted,
                };
                let Some((stream, slot)) = accepted else { break };
                let served = serve(stream);
                this.open.spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            match queued(listener) {
                Ok(streams) => {
                    for stream in streams {
                        this.open.spawn(serve(stream));
                    }
                }
                Err(error) => warn!(%error, "connections that were not accepted yet are reset"),
            }
        });
    }

    async fn next(
        &self,
        listener: &TcpListener,
        slots: &Arc<Semaphore>,
        reporter: Reporter,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        // The semaphore is never closed.
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            let error = match listener.accept().await {
                Ok((stream, _)) => {
                    self.reserve.enough();
                    return Some((stream, slot));
                }
                Err(error) => error,
            };
            if is_gone(&error) {
                continue;
            }
            if self.reserve.turn_away(listener, &error) {
                self.metrics.refused(reporter, NO_DESCRIPTORS);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A descriptor kept for the day when there are none left. Then it is given up for a moment to accept a connection
/// and reset it: a caller that is refused at once is better off than one that waits in a queue for nothing.
#[derive(Clone)]
pub(crate) struct Reserve {
    inner: Arc<Inner>,
}

struct Inner {
    kept: Mutex<Option<File>>,
    exhausted: AtomicBool,
}

impl Reserve {
    /// Takes the descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                kept: Mutex::new(Some(File::open(ANY_FILE)?)),
                exhausted: AtomicBool::new(false),
            }),
        })
    }

    /// After a failure to accept for want of descriptors: resets the next connection. `false` if that was not the
    /// failure, or nothing could be done.
    fn turn_away(&self, listener: &TcpListener, error: &io::Error) -> bool {
        if !self.inner.exhausted.swap(true, Ordering::Relaxed) {
            warn!(%error, "cannot accept connections; raise the limit of open files if this lasts");
        }
        if !lacks_descriptors(error) {
            return false;
        }
        // Whoever holds the lock has the only descriptor there is.
        let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        drop(kept.take());
        let turned_away = match listener.accept().now_or_never() {
            Some(Ok((stream, _))) => {
                // If that cannot be set, closing will do.
                let _ = socket::reset_on_close(&stream);
                true
            }
            _ => false,
        };
        // If another thread was quicker, there is none to keep this time.
        *kept = File::open(ANY_FILE).ok();
        turned_away
    }

    fn enough(&self) {
        if self.inner.exhausted.load(Ordering::Relaxed) && self.inner.exhausted.swap(false, Ordering::Relaxed)
        {
            let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.is_none() {
                *kept = File::open(ANY_FILE).ok();
            }
            info!("connections are accepted again");
        }
    }
}

const ANY_FILE: &str = "/dev/null";

/// Whether neither this process nor the machine has a descriptor left, accept(2).
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

// Numbers of errno(3) on Linux.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Takes everything that waits in a listener's queue, and closes it.
fn queued(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    // Asked of the kernel and not of the runtime, which may not have heard of the last ones yet.
    let listener = listener.into_std()?;
    let mut streams = Vec::new();
    // The queue holds one more than its length; under a flood it would never be empty.
    for _ in 0..=BACKLOG {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                streams.push(TcpStream::from_std(stream)?);
            }
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                warn!(%error, "cannot take what still waits for a listener that closes");
                break;
            }
        }
    }
    Ok(streams)
}

/// The connection was gone before it could be accepted, accept(2).
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
