//! Asking for resources by name, and waiting for the answer.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Questions that may wait to be taken up.
const QUEUED: usize = 1024;

/// The most connections that wait for an answer at a time.
pub const MAX_WAITING: usize = 16_384;

/// Asks for resources of the type that is subscribed to on demand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Asker {
    demands: mpsc::Sender<Demand>,
}

/// The client's end of [`Asker`]s.
#[derive(Debug)]
pub struct Demands {
    pub(crate) type_url: String,
    pub(crate) receiver: mpsc::Receiver<Demand>,
}

/// One question.
#[derive(Debug)]
pub struct Demand {
    pub(crate) name: String,
    pub(crate) answer: oneshot::Sender<Result<bool, AskError>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The control plane did not answer in time.
    #[error("the control plane did not answer within {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// A bound of this process.
    #[error("too many names are asked of the control plane at once")]
    TooMany,
    /// The client has ended.
    #[error("the control plane is no longer asked")]
    Ended,
}

/// Both ends, for resources of `type_url`.
pub fn on_demand(type_url: &str) -> (Asker, Demands) {
    let (demands, receiver) = mpsc::channel(QUEUED);
    let type_url = type_url.to_owned();
    (Asker { demands }, Demands { type_url, receiver })
}

impl Demands {
    /// The next question, for who answers without a control plane. None: nobody can ask any more.
    pub async fn next(&mut self) -> Option<Demand> {
        self.receiver.recv().await
    }
}

impl Demand {
    /// What is asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that it is in force, or that there is no such thing.
    pub fn answer(self, exists: bool) {
        // Whoever asked may have given up.
        let _ = self.answer.send(Ok(exists));
    }
}

impl Asker {
    /// Asks for the resource called `name`, or also called so, and waits until it is in force: true, or known not to
    /// exist: false. A name that is asked for several times at once is asked of the control plane once.
    ///
    /// # Errors
    /// When there is no answer within `deadline`, or too much is asked.
    pub async fn ask(&self, name: &str, deadline: Duration) -> Result<bool, AskError> {
        let (answer, answered) = oneshot::channel();
        let name = name.to_owned();
        self.demands
            .try_send(Demand { name, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AskError::TooMany,
                mpsc::error::TrySendError::Closed(_) => AskError::Ended,
            })?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::Ended),
            Err(_) => Err(AskError::Deadline(deadline)),
        }
    }
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_name: HashMap<String, Vec<oneshot::Sender<Result<bool, AskError>>>>,
    count: usize,
}

impl Waiters {
    /// Keeps a question until it is answered; refuses it when there are too many.
    pub(crate) fn add(&mut self, demand: Demand) {
        if self.count >= MAX_WAITING {
            self.forget_the_gone();
        }
        if self.count >= MAX_WAITING {
            refuse(demand);
            return;
        }
        self.count += 1;
        self.by_name.entry(demand.name).or_default().push(demand.answer);
    }

    /// Answers everybody who waits for `name`.
    pub(crate) fn answer(&mut self, name: &str, exists: bool) {
        for waiter in self.by_name.remove(name).unwrap_or_default() {
            self.count -= 1;
            // Whoever waited may have given up.
            let _ = waiter.send(Ok(exists));
        }
    }

    /// Forgets whoever has given up.
    pub(crate) fn forget_the_gone(&mut self) {
        self.by_name.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.count = self.by_name.values().map(Vec::len).sum();
    }
}

/// Says that too much is asked.
pub(crate) fn refuse(demand: Demand) {
    let _ = demand.answer.send(Err(AskError::TooMany));
}
