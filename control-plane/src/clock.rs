//! The clock of this process, and how far it is believed: see `ca::SettledClock`. One for everything that forgets by time.

mod api_server;
mod standing;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ca::{Doubt, Moment, SETTLED_AFTER, SettledClock};
use telemetry::ControlPlaneMetrics;

use crate::events::{Events, Notice, Regarding};
pub(crate) use standing::Standing;

/// How often it is looked whether the clock was set.
const LOOK: Duration = Duration::from_secs(1);
/// How often the API server is asked for the time.
const ASK: Duration = Duration::from_secs(60);
/// A clock is believed after so many of the pauses of a rotation, which say how careful it is to be.
const PAUSES: u32 = 12;

/// What both clocks of the machine show.
type Shown = (SystemTime, Instant);

/// The clock. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
}

struct Shared {
    read: Box<dyn Fn() -> Shown + Send + Sync>,
    settled_after: Duration,
    settled: Mutex<SettledClock>,
}

/// Who is told that the clock is in doubt.
pub(crate) struct Tell {
    events: Option<(Events, Regarding)>,
    metrics: ControlPlaneMetrics,
}

impl Tell {
    /// Events are about the pod of this name in this namespace.
    pub(crate) fn new(
        events: Option<Events>,
        (namespace, name): (&str, &str),
        metrics: ControlPlaneMetrics,
    ) -> Tell {
        let pod = Regarding {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        Tell {
            events: events.map(|events| (events, pod)),
            metrics,
        }
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::reading(SETTLED_AFTER, system)
    }
}

impl Clock {
    /// The system's, believed after twelve pauses of a rotation, and an hour at most.
    pub(crate) fn for_pause(pause: Duration) -> Clock {
        Clock::reading(SETTLED_AFTER.min(pause * PAUSES), system)
    }

    fn reading(settled_after: Duration, read: impl Fn() -> Shown + Send + Sync + 'static) -> Clock {
        let (wall, monotonic) = read();
        Clock {
            shared: Arc::new(Shared {
                read: Box::new(read),
                settled_after,
                settled: Mutex::new(SettledClock::new(settled_after, wall, monotonic)),
            }),
        }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Moment {
        let (wall, monotonic) = (self.shared.read)();
        self.settled().look(wall, monotonic)
    }

    /// The last thing that an earlier process has written down is of this time.
    pub(crate) fn begins_with(&self, written: SystemTime) {
        let (wall, monotonic) = (self.shared.read)();
        self.settled().begins_with(written, wall, monotonic);
    }

    /// Whether it is believed, and why not.
    pub(crate) fn standing(&self) -> Standing {
        let (wall, monotonic) = (self.shared.read)();
        let mut settled = self.settled();
        let now = settled.look(wall, monotonic);
        Standing {
            now,
            doubt: settled.doubt(wall, monotonic),
            ahead: settled.word(wall, monotonic),
            settled_after: self.shared.settled_after,
        }
    }

    /// Asks the API server for the time, once; where it does not answer nothing is known.
    pub(crate) async fn compare(&self, client: &kube::Client) {
        match api_server::time(client).await {
            Ok(told) => {
                let (wall, monotonic) = (self.shared.read)();
                self.settled().heard(told, wall, monotonic);
            }
            Err(problem) => tracing::debug!("the API server does not tell the time: {problem}"),
        }
    }

    /// Looks at the clock until the future is dropped, holds it against the API server's where there is one, and tells when it
    /// is in doubt. `forget` is called with the time that is over for sure.
    pub(crate) async fn keep(self, client: Option<kube::Client>, tell: Tell, forget: impl Fn(SystemTime)) {
        let mut said: Option<&'static str> = None;
        let mut asked = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let standing = self.standing();
            forget(standing.now.earliest);
            let code = standing.doubt.map(|doubt| doubt.code());
            tell.metrics.set_clock(standing.ahead, standing.now.is_doubtful);
            if code != said {
                tell.say(&standing);
            }
            if let Some(client) = &client
                && (asked.elapsed() >= ASK || code != said)
            {
                self.compare(client).await;
                asked = Instant::now();
            }
            said = code;
        }
    }

    fn settled(&self) -> MutexGuard<'_, SettledClock> {
        // Nothing in it is left half done by a panic.
        self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tell {
    fn say(&self, standing: &Standing) {
        let Some(reason) = standing.reason() else {
            tracing::info!("the clock of this control plane is believed");
            return;
        };
        if matches!(standing.doubt, Some(Doubt::Young { .. })) {
            tracing::info!("{reason}");
            return;
        }
        tracing::warn!("{reason}");
        if let Some((events, regarding)) = &self.events {
            events.record(Notice {
                regarding: regarding.clone(),
                reason: "ClockInDoubt".to_owned(),
                action: "CompareClocks",
                note: reason,
            });
        }
    }
}

fn system() -> Shown {
    (SystemTime::now(), Instant::now())
}
