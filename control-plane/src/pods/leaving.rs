//! Who is to hear that a pod has gone.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

/// The pods that somebody waits for to go, by uid.
#[derive(Default)]
pub(super) struct Leaving {
    by_uid: HashMap<String, Awaited>,
    next: u64,
}

struct Awaited {
    number: u64,
    gone: CancellationToken,
    by: usize,
}

/// One who waits; to be handed back to [`Leaving::forget`].
pub(super) struct Waiter {
    uid: String,
    number: u64,
    pub(super) gone: CancellationToken,
}

impl Leaving {
    pub(super) fn wait(&mut self, uid: &str) -> Waiter {
        let next = &mut self.next;
        let awaited = self.by_uid.entry(uid.to_owned()).or_insert_with(|| {
            *next += 1;
            Awaited {
                number: *next,
                gone: CancellationToken::new(),
                by: 0,
            }
        });
        awaited.by += 1;
        Waiter {
            uid: uid.to_owned(),
            number: awaited.number,
            gone: awaited.gone.clone(),
        }
    }

    pub(super) fn forget(&mut self, waiter: &Waiter) {
        let Some(awaited) = self.by_uid.get_mut(&waiter.uid) else {
            return;
        };
        // Whoever waits since it has gone waits for it to go again.
        if awaited.number != waiter.number {
            return;
        }
        awaited.by -= 1;
        if awaited.by == 0 {
            self.by_uid.remove(&waiter.uid);
        }
    }

    pub(super) fn has_gone(&mut self, uid: &str) {
        if let Some(awaited) = self.by_uid.remove(uid) {
            awaited.gone.cancel();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }
}
