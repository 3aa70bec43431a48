//! What to do next for a pod: a pure decision over what is wanted and what is.
//!
//! ```text
//!            InstallRules    Annotate(pending)    Serve   (ack)    Annotate(enabled)
//!  direct ───────────────▶ · ────────────────▶ · ──────▶ · ─────▶ · ────────────────▶ enrolled
//!    ▲                                                                                   │
//!    │  RemoveRules    (grace)    StopServing    (settle)    StopRedirecting   Annotate(none)
//!    └────────────────────── · ◀───────────── · ◀───────── · ◀──────────────── · ◀───────┘
//! ```
//!
//! It is asked again after every step and every change, and looks at the whole situation each time; so a change of
//! mind half-way (a label removed and set again) needs no case of its own, and neither does an agent that was
//! restarted half-way.

use std::time::{Duration, Instant};

/// Between the end of redirection and the end of service: peers learn meanwhile that the pod takes no more tunnels.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Its traffic goes through the node proxy.
    Enrolled,
    /// It goes its own way.
    Direct,
    /// The pod has ended or is gone, and its network with it.
    Gone,
}

/// How things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actual {
    /// The annotation on the pod.
    pub annotation: Annotation,
    /// The rules in its network namespace.
    pub rules: Rules,
    /// What the node proxy does for it.
    pub service: Service,
}

/// The annotation `ambient.istio.io/redirection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// Not there.
    None,
    /// The rules are in, the node proxy has not answered.
    Pending,
    /// Peers may tunnel to the pod.
    Enabled,
}

/// The rules in a pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Not looked at since the agent started.
    Unknown,
    /// Not there.
    Absent,
    /// There, as they should be.
    Installed,
    /// New connections are direct; what older ones need is still there.
    Draining {
        /// When the redirection was removed.
        since: Instant,
        /// When the node proxy was told to drain the pod, if it has been.
        proxy_told: Option<Instant>,
    },
}

/// What the node proxy does for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It has not been told of the pod.
    None,
    /// It is to serve the pod and has not answered, or is not connected.
    Asked,
    /// It serves the pod.
    Serving,
    /// It cannot; it has to be asked again.
    Failed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look whether rules are left from before.
    InspectRules,
    /// Put the rules in, or set right what differs.
    InstallRules,
    /// Write or remove the annotation, and wait until that is done.
    Annotate(Annotation),
    /// Hand the pod to the node proxy.
    Serve,
    /// Take out the rules that redirect new connections.
    StopRedirecting,
    /// Tell the node proxy to let go of the pod, and wait for its answer.
    StopServing,
    /// Take out all that is left of the rules.
    RemoveRules,
    /// Nothing before this moment, unless something changes.
    WaitUntil(Instant),
    /// Nothing until something changes: the node proxy has to answer.
    AwaitProxy,
    /// Everything is as wanted.
    Settled,
}

/// The next step towards the goal. `grace` is the time the node proxy has for the pod's open connections.
pub fn next(goal: Goal, actual: Actual, grace: Duration, now: Instant) -> Step {
    match goal {
        Goal::Enrolled => towards_enrolled(actual),
        Goal::Direct => towards_direct(actual, grace, now),
        Goal::Gone if actual.service != Service::None => Step::StopServing,
        Goal::Gone if actual.annotation != Annotation::None => Step::Annotate(Annotation::None),
        Goal::Gone => Step::Settled,
    }
}

fn towards_enrolled(actual: Actual) -> Step {
    match actual {
        Actual {
            rules: Rules::Unknown | Rules::Absent | Rules::Draining { .. },
            ..
        } => Step::InstallRules,
        Actual {
            annotation: Annotation::None,
            ..
        } => Step::Annotate(Annotation::Pending),
        Actual {
            service: Service::None | Service::Failed,
            ..
        } => Step::Serve,
        Actual {
            service: Service::Asked,
            ..
        } => Step::AwaitProxy,
        Actual {
            annotation: Annotation::Pending,
            ..
        } => Step::Annotate(Annotation::Enabled),
        Actual {
            annotation: Annotation::Enabled,
            ..
        } => Step::Settled,
    }
}

fn towards_direct(actual: Actual, grace: Duration, now: Instant) -> Step {
    // First of all: peers must stop tunnelling before the pod stops taking tunnels.
    if actual.annotation != Annotation::None {
        return Step::Annotate(Annotation::None);
    }
    let served = actual.service != Service::None;
    match actual.rules {
        Rules::Unknown => Step::InspectRules,
        Rules::Installed => Step::StopRedirecting,
        Rules::Draining { since, .. } if served => at(since + SETTLE_TIME, now, Step::StopServing),
        // A proxy that was never told, or told by an agent before this one, has had its time from the removal on.
        Rules::Draining { since, proxy_told } => {
            at(proxy_told.unwrap_or(since) + grace, now, Step::RemoveRules)
        }
        Rules::Absent if served => Step::StopServing,
        Rules::Absent => Step::Settled,
    }
}

fn at(moment: Instant, now: Instant, step: Step) -> Step {
    if now >= moment {
        step
    } else {
        Step::WaitUntil(moment)
    }
}

#[cfg(test)]
mod tests;
