//! After a rush of connections the memory that they took is given back: the C library's allocator would keep it.

use crate::context::Context;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// How often it is looked at how many connections there are.
const EVERY: Duration = Duration::from_secs(5);

/// Fewer connections than these are no rush: their memory is used again soon.
const RUSH: usize = 256;

/// Gives memory back after each rush, while the process lives.
pub(crate) async fn keep_little(context: Arc<Context>) {
    let mut rush = Rush::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if rush.is_over(context.connections.count()) {
            // The allocator's locks may be held for a while, but by no thread that moves bytes.
            let giving = tokio::task::spawn_blocking(|| {
                let began = Instant::now();
                let any = sys::memory::give_back();
                debug!(any, took = ?began.elapsed(), "gave back memory after many connections have closed");
            });
            // It cannot fail, and at the end of the process nobody needs it.
            let _ = giving.await;
        }
    }
}

/// Finds when a rush is over: at most half of the connections are left that there were, and [`RUSH`] fewer.
#[derive(Debug, Default)]
struct Rush {
    /// The most that there were since the last one.
    most: usize,
}

impl Rush {
    fn is_over(&mut self, open: usize) -> bool {
        self.most = self.most.max(open);
        let over = open <= self.most / 2 && self.most - open >= RUSH;
        if over {
            self.most = open;
        }
        over
    }
}

#[cfg(test)]
mod tests;
