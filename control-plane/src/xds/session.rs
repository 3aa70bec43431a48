//! The protocol of one delta xDS stream, without I/O: requests, states of the mesh and the time go in, responses
//! come out.
//!
//! ```text
//!              request                    new view, or an answer is owed
//!   (nothing) ─────────▶ Holding ─────────▶ Planning ──▶ Step sent ──┐
//!                        until both types    │   ▲         │  answered, or too late
//!                        are asked for       │   └─────────┴──────────┘ next step, or the plan is done
//!                                            └─▶ Idle (nothing to send)
//! ```
//!
//! A change is sent as a plan of a few steps, whose order [`plan`] explains. So a proxy never knows a workload before
//! the policies that the workload lists, nor loses a policy that a workload still lists, nor has a policy change under
//! a workload that no longer wants it. The next step waits until the proxy has answered the one before; a proxy that
//! does not answer is given a few seconds. A plan is for one change of a policy, or for all changes of addresses up to
//! the next such. A proxy that is slow is led through what it missed, as far as that is remembered; one that is
//! further behind, or comes back with what is no remembered state, is told of the whole difference by one plan.

mod plan;
mod rejection;
mod subscription;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::discovery::DeltaDiscoveryRequest;

use self::plan::Plan;
use self::rejection::Rejections;
pub(crate) use self::rejection::shortened;
use self::subscription::{Shown, Subscription};
use super::ResourceKind;
use super::history::History;
use super::resources::Resources;
use super::table::View;

/// How long a proxy may take to answer a step before the next one is sent all the same.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long the first answer waits for the stream to ask for the other type too.
pub(crate) const HOLD: Duration = Duration::from_millis(200);
/// About how long a response is by default, in bytes; more is told by several, each answered before the next. Istio's node
/// proxy and ours take 200 MiB; this is enough for some 400 000 workloads.
pub(crate) const MAX_RESPONSE_BYTES: usize = 128 * 1024 * 1024;
/// How many names one stream may ask for, beside what the proxy has from an earlier one.
pub(crate) const MAX_NAMES: usize = 65_536;

pub(crate) struct Session {
    /// Makes this stream's nonces unlike those of any other.
    stream: u64,
    nonces: u64,
    client: Client,
    history: Arc<History>,
    subscriptions: HashMap<ResourceKind, Subscription>,
    first_request: Option<Instant>,
    plan: Option<Plan>,
    awaited: Option<Awaited>,
    unanswered: HashMap<ResourceKind, Unanswered>,
    /// The last view all of which was sent, or of which the proxy has everything from an earlier stream.
    told: Option<Arc<View>>,
    /// The revision of the last view all of which was sent.
    sent: u64,
    acknowledged: u64,
    /// How many steps had no answer in time.
    overdue: u64,
    /// How many answers were to another response than the last.
    stale: u64,
    progress: [Progress; ResourceKind::ALL.len()],
    /// The words of the last answer with an error.
    refusal: Option<(ResourceKind, String)>,
    rejections: Rejections,
}

/// Who is served.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The proxy's own node, whose workloads it is told of without asking.
    pub(crate) node: Arc<str>,
    /// It is told of dry-run policies.
    pub(crate) dry_run: bool,
    /// About how long a response to it may be, in bytes.
    pub(crate) max_response: usize,
}

impl Client {
    fn shown<'a>(&self, view: &'a View, kind: ResourceKind) -> Shown<'a> {
        Shown {
            table: view.table(kind),
            dry_run: self.dry_run,
        }
    }
}

/// A step without whose answer the next one is not sent yet.
struct Awaited {
    kind: ResourceKind,
    deadline: Instant,
}

/// The last response of a type, while it has no answer.
struct Unanswered {
    nonce: String,
    /// The revision of that response.
    revision: u64,
    /// The revision of the first response of this type in a row that has no answer.
    since: u64,
}

/// How far one type is on this stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many responses were sent.
    pub(crate) responses: u64,
    /// The revision of the last response.
    pub(crate) sent: u64,
    /// The revision of the last response that was answered without an error.
    pub(crate) acknowledged: u64,
    /// When a response was answered with an error last.
    pub(crate) refused_at: Option<Instant>,
}

/// What a request says, once its type is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) subscribe: Vec<String>,
    pub(crate) unsubscribe: Vec<String>,
    pub(crate) initial_versions: BTreeMap<String, String>,
    pub(crate) nonce: String,
    /// The reason for not accepting something of the response with that nonce.
    pub(crate) error: Option<String>,
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Request {
        Request {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            initial_versions: request.initial_resource_versions,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
        }
    }
}

/// One response, its resources encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) kind: ResourceKind,
    pub(crate) nonce: String,
    /// The revision of the store, for people who read along.
    pub(crate) revision: u64,
    pub(crate) resources: Resources,
    pub(crate) removed: Vec<Arc<str>>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this and ask again.
    Send(Response),
    /// Wait for a request or a new view; ask again at the time given, if any.
    Wait(Option<Instant>),
    /// End the stream: the proxy is so far behind that it has to say itself what it has.
    Restart,
}

/// A resource that the proxy did not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) kind: ResourceKind,
    /// Empty where the proxy named none.
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// The client breaks a limit; the stream ends with this as its reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("more than {MAX_NAMES} names are asked for on one stream; subscribe to everything instead")]
    TooManyNames,
}

impl Session {
    pub(crate) fn new(stream: u64, client: Client, history: Arc<History>) -> Session {
        Session {
            stream,
            nonces: 0,
            client,
            history,
            subscriptions: HashMap::new(),
            first_request: None,
            plan: None,
            awaited: None,
            unanswered: HashMap::new(),
            told: None,
            sent: 0,
            acknowledged: 0,
            overdue: 0,
            stale: 0,
            progress: [Progress::default(); ResourceKind::ALL.len()],
            refusal: None,
            rejections: Rejections::default(),
        }
    }

    /// The mesh is now so. Histories must come in order.
    pub(crate) fn update(&mut self, history: Arc<History>) {
        self.history = history;
    }

    /// Takes a request; returns what the proxy rejects with it.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        kind: ResourceKind,
        request: Request,
    ) -> Result<Vec<Rejection>, RequestError> {
        self.first_request.get_or_insert(now);
        let rejections = self.answer(now, kind, &request);
        match self.subscriptions.get_mut(&kind) {
            Some(subscription) => subscription.change(request)?,
            None => {
                let subscription = Subscription::begin(request)?;
                self.subscriptions.insert(kind, subscription);
            }
        }
        Ok(rejections)
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        loop {
            if let Some(awaited) = &self.awaited {
                if self.unanswered.contains_key(&awaited.kind) {
                    if now < awaited.deadline {
                        return Next::Wait(Some(awaited.deadline));
                    }
                    self.overdue += 1;
                }
                self.awaited = None;
            }
            let Some(plan) = &mut self.plan else {
                if let Some(until) = self.held_until(now) {
                    return Next::Wait(until);
                }
                match self.plan() {
                    Some(Some(plan)) => self.plan = Some(plan),
                    Some(None) => return Next::Wait(None),
                    None => return Next::Restart,
                }
                continue;
            };
            let revision = plan.view().revision;
            if let Some(step) = plan.next() {
                return Next::Send(self.send(now, step, revision));
            }
            self.told = Some(plan.view().clone());
            self.sent = revision;
            self.plan = None;
            self.settle();
        }
    }

    /// The views between which the proxy is on its way, as far as it was told of one and is told of another.
    #[cfg(test)]
    pub(crate) fn between(&self) -> (Option<Arc<View>>, Option<Arc<View>>) {
        (
            self.told.clone(),
            self.plan.as_ref().map(|plan| plan.view().clone()),
        )
    }

    /// The highest revision of which the proxy was sent everything that concerns it and has answered.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The highest revision of which the proxy was sent everything that concerns it.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many responses had no answer when the next one was due.
    pub(crate) fn overdue(&self) -> u64 {
        self.overdue
    }

    /// How many answers were to another response than the last of the type.
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// How far a type is.
    pub(crate) fn progress(&self, kind: ResourceKind) -> Progress {
        self.progress[kind as usize]
    }

    /// The type and the words of the last answer with an error, shortened.
    pub(crate) fn refusal(&self) -> Option<(ResourceKind, &str)> {
        self.refusal.as_ref().map(|(kind, words)| (*kind, words.as_str()))
    }

    /// What the proxy has not accepted, and has not been sent anew.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = &Rejection> {
        self.rejections.iter()
    }

    /// The next plan, if there is anything to tell; `None` when the client is too far behind for one.
    fn plan(&mut self) -> Option<Option<Plan>> {
        if self.told.is_none() {
            self.resume();
        }
        let latest = self.history.latest();
        let generation = self.told.as_ref().map(|told| told.generation);
        let owed = self.subscriptions.values().any(Subscription::is_owed);
        if !owed && generation == Some(latest.generation) {
            return Some(None);
        }
        let next = generation.and_then(|generation| self.history.after(generation));
        let view = next.unwrap_or(latest).clone();
        Plan::new(self.told.as_deref(), view, &self.client, &mut self.subscriptions).map(Some)
    }

    /// Begins where an earlier stream of the proxy ended, if what it has is all of a view that is remembered.
    fn resume(&mut self) {
        let mut has = Vec::new();
        for kind in ResourceKind::ALL {
            let before = self
                .subscriptions
                .get(&kind)
                .and_then(Subscription::fingerprint_before);
            let Some(before) = before else { return };
            has.push((kind, before));
        }
        if has.iter().all(|(_, before)| *before == 0) {
            return;
        }
        let dry_run = self.client.dry_run;
        let is_had = |view: &View| {
            has.iter()
                .all(|(kind, before)| view.table(*kind).fingerprint(dry_run) == *before)
        };
        let Some(view) = self.history.find(is_had).cloned() else {
            return;
        };
        for (kind, subscription) in &mut self.subscriptions {
            subscription.resume(self.client.shown(&view, *kind));
        }
        self.told = Some(view);
    }

    /// While a plan must not begin yet: until when, where time alone ends it.
    fn held_until(&self, now: Instant) -> Option<Option<Instant>> {
        let Some(first) = self.first_request else {
            return Some(None);
        };
        let until = first + HOLD;
        let complete = ResourceKind::ALL
            .iter()
            .all(|kind| self.subscriptions.contains_key(kind));
        (!complete && now < until).then_some(Some(until))
    }

    fn answer(&mut self, now: Instant, kind: ResourceKind, request: &Request) -> Vec<Rejection> {
        // Another nonce is that of an earlier response (a later one is on its way), of another stream, or nonsense.
        let unanswered = self.unanswered.get(&kind);
        let is_answer = unanswered.is_some_and(|unanswered| unanswered.nonce == request.nonce);
        let answered = if is_answer {
            self.unanswered.remove(&kind)
        } else {
            None
        };
        let Some(answered) = answered else {
            self.stale += u64::from(!request.nonce.is_empty());
            return Vec::new();
        };
        let progress = &mut self.progress[kind as usize];
        match &request.error {
            None => progress.acknowledged = answered.revision,
            Some(words) => {
                progress.refused_at = Some(now);
                self.refusal = Some((kind, shortened(words)));
            }
        }
        let rejections = match &request.error {
            Some(message) => rejection::read(kind, message, |name| self.is_known(kind, name)),
            None => Vec::new(),
        };
        self.rejections.answered(kind, &rejections);
        self.settle();
        rejections
    }

    fn is_known(&self, kind: ResourceKind, name: &str) -> bool {
        let latest = self.history.latest();
        let view = self.plan.as_ref().map_or(latest, Plan::view);
        let is_in = |view: &View| view.table(kind).get(name).is_some();
        is_in(view) || is_in(latest)
    }

    fn send(&mut self, now: Instant, step: plan::Step, revision: u64) -> Response {
        self.nonces += 1;
        let nonce = format!("{:x}-{}", self.stream, self.nonces);
        let since = self
            .unanswered
            .get(&step.kind)
            .map_or(revision, |unanswered| unanswered.since);
        self.unanswered.insert(
            step.kind,
            Unanswered {
                nonce: nonce.clone(),
                revision,
                since,
            },
        );
        self.awaited = Some(Awaited {
            kind: step.kind,
            deadline: now + ANSWER_DEADLINE,
        });
        self.rejections.sent(step.kind, step.names());
        let progress = &mut self.progress[step.kind as usize];
        (progress.responses, progress.sent) = (progress.responses + 1, revision);
        Response {
            kind: step.kind,
            nonce,
            revision,
            resources: step.encoded(),
            removed: step.removed,
        }
    }

    /// A revision counts as acknowledged when it was sent and no response up to it lacks its answer. A rejection is
    /// an answer: the rest of that response is in force, and what was rejected is listed.
    fn settle(&mut self) {
        if self
            .unanswered
            .values()
            .all(|unanswered| unanswered.since > self.sent)
        {
            self.acknowledged = self.sent;
        }
    }
}
