//! Which of several replicas does the work that only one must do: writing status, certificates' secrets, config maps.
//!
//! [`Leadership`] is what the parts of the program see of it: a value to look at, and to wait for. Over a Kubernetes
//! API it is decided by a Lease (`coordination.k8s.io/v1`): `election` is the machine, without I/O; `lease` asks the
//! API for it. Everywhere else there is one process, which always leads.
//!
//! A leader believes in itself for a shorter time than the others wait before they follow it, so normally there are
//! never two. All that leaders do must be harmless all the same when two do it for a moment: a request may be under
//! way while its sender is replaced.

mod election;
mod lease;

#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::watch;

pub(crate) use self::election::Timing;
pub(crate) use self::lease::{Candidate, elect, micro_time};

/// Whether this process leads. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    term: watch::Receiver<Term>,
}

/// Until when this process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// It does not lead.
    None,
    /// To be renewed before.
    Until(Instant),
    /// There is nobody else.
    Always,
}

impl Term {
    fn leads(self, now: Instant) -> bool {
        match self {
            Term::None => false,
            Term::Until(until) => now < until,
            Term::Always => true,
        }
    }
}

/// What has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Term,
    Work,
}

impl Leadership {
    /// There is one process, which leads.
    pub(crate) fn always() -> Leadership {
        Leadership {
            term: watch::channel(Term::Always).1,
        }
    }

    /// Whether this process leads now. False as soon as the term is over, even if nobody has said so.
    pub(crate) fn is_leader(&self) -> bool {
        self.term.borrow().leads(Instant::now())
    }

    /// Waits until this process leads.
    pub(crate) async fn elected(&mut self) {
        while !self.is_leader() {
            self.changed().await;
        }
    }

    /// Waits until this process does not lead.
    pub(crate) async fn lost(&mut self) {
        while self.is_leader() {
            self.changed().await;
        }
    }

    /// Waits until [`is_leader`](Leadership::is_leader) may say something else than it did when it was last waited
    /// for.
    pub(crate) async fn changed(&mut self) {
        let term = *self.term.borrow();
        let over = async {
            match term {
                Term::Until(until) if Instant::now() < until => tokio::time::sleep_until(until.into()).await,
                _ => std::future::pending().await,
            }
        };
        let mut said = self.term.clone();
        let news = async {
            if said.changed().await.is_err() {
                // Nobody decides any more: what is, stays until the term is over.
                std::future::pending().await
            }
        };
        tokio::select! {
            () = news => {}
            () = over => {}
        }
        self.term = said;
    }

    /// Does this work whenever this process leads, from its beginning each time, and drops it when it no longer does.
    /// Work that ends is done again with the next term only.
    ///
    /// No step of it is begun after the term's end: a process that was stopped, and goes on when another leads, finds
    /// an answer there that the work has waited for, and would go on to write before any timer has told it that its
    /// time is over. What was sent before may still arrive: see above.
    pub(crate) async fn while_leading<W: Future<Output = ()>>(mut self, mut work: impl FnMut() -> W) {
        loop {
            self.elected().await;
            let (mut watched, fence) = (self.clone(), self.clone());
            let mut work = pin!(work());
            let mut term_or_work = pin!(poll_fn(|context| match fence.is_leader() {
                true => work.as_mut().poll(context).map(|()| Ended::Work),
                false => Poll::Ready(Ended::Term),
            }));
            let ended = tokio::select! {
                biased;
                () = watched.lost() => Ended::Term,
                ended = &mut term_or_work => ended,
            };
            if ended == Ended::Work {
                self.lost().await;
            }
        }
    }
}
