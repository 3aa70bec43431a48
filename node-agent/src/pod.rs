//! One task per pod: carries out what [`crate::plan`] says, and waits.
//!
//! A pod whose network namespace is broken keeps its own task busy with retries, and no other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use object_store::{ObjectWriter, WriteError};
use objects::{REDIRECTION_ANNOTATION, REDIRECTION_ENABLED, REDIRECTION_PENDING};
use sys::{Namespace, NamespaceId};
use tokio::sync::watch;

use crate::{
    finder::{FindError, NamespaceFinder},
    firewall::{Firewall, FirewallError, Found},
    plan::{self, Actual, Annotation, Goal, Rules, Service, Step},
    proxies::{Proxies, Served},
    status::{Board, PodState, PodStatus},
    tracker::PodView,
};

/// The first pause after a failure; it doubles up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a write has that removes an annotation, once the agent is about to end.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// What all pods share.
pub struct Tools {
    /// Finds network namespaces.
    pub finder: Arc<dyn NamespaceFinder>,
    /// Writes rules.
    pub firewall: Firewall,
    /// The node proxies.
    pub proxies: Proxies,
    /// Writes annotations.
    pub writer: Arc<dyn ObjectWriter>,
    /// Where the status goes.
    pub board: Board,
    /// How long the node proxy has for open connections.
    pub grace: Duration,
    /// How often an enrolled pod is asked whether it still has the same network namespace.
    pub check_interval: Duration,
    /// Whether the agent is about to end.
    pub ending: watch::Receiver<bool>,
}

/// The task of one pod.
pub struct PodTask {
    tools: Arc<Tools>,
    views: watch::Receiver<PodView>,
    view: PodView,
    annotation: Annotation,
    /// The store's revision of our last write; what was read before it is stale.
    written: u64,
    rules: Rules,
    service: Option<watch::Receiver<Served>>,
    /// The namespace that the node proxy was given, and the one that has the rules.
    given: Option<NamespaceId>,
    namespace: Option<Namespace>,
    /// After a failure: when to try again, and how long to wait the time after.
    retry: Option<Instant>,
    pause: Duration,
    error: Option<String>,
    /// The agent has let go of the pod: there is no more news of it.
    released: bool,
    /// Whether the agent is about to end, as far as this task has heard.
    ending: watch::Receiver<bool>,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("the pod has no address yet")]
    NoAddress,
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("cannot write the annotation {REDIRECTION_ANNOTATION}: {0}")]
    Write(WriteError),
    #[error("the node proxy does not take the pod: {0}")]
    Refused(String),
}

impl PodTask {
    /// A task for the pod. `rules` says whether a look into its namespace is needed.
    pub fn new(tools: Arc<Tools>, mut views: watch::Receiver<PodView>, rules: Rules) -> Self {
        let view = views.borrow_and_update().clone();
        let annotation = view.annotation;
        let ending = tools.ending.clone();
        Self {
            tools,
            ending,
            views,
            view,
            annotation,
            written: 0,
            rules,
            service: None,
            given: None,
            namespace: None,
            retry: None,
            pause: FIRST_PAUSE,
            error: None,
            released: false,
        }
    }

    /// Registers a pod that an earlier run of the agent had enrolled, before any proxy is given a snapshot: proxies
    /// must not let go of it.
    pub fn resume_service(&mut self) {
        let found = self.tools.finder.find(&self.view.uid, &self.view.addresses);
        if let Err(error) = &found {
            self.error = Some(error.to_string());
        }
        self.give(found.ok());
    }

    /// Runs until the pod is gone and everything of it is taken back.
    pub async fn run(mut self) {
        loop {
            let now = Instant::now();
            let actual = Actual {
                annotation: self.annotation,
                rules: self.rules,
                service: self.service(now),
            };
            let step = plan::next(self.view.goal, actual, self.tools.grace, now);
            if step == Step::Settled {
                self.pause = FIRST_PAUSE;
                self.error = None;
            }
            self.publish(actual, step);
            let wait_until = match (step, self.retry) {
                (Step::Settled, _) if self.released => {
                    self.tools.board.change(|pods| pods.remove(&self.view.uid));
                    return;
                }
                (Step::Settled, _) if self.view.goal == Goal::Enrolled => {
                    if self.namespace_is_another() {
                        self.rules = Rules::Unknown;
                        continue;
                    }
                    Some(now + self.tools.check_interval)
                }
                (Step::Settled | Step::AwaitProxy, _) => None,
                (Step::WaitUntil(moment), _) => Some(moment),
                (_, Some(moment)) if now < moment => Some(moment),
                (step, _) => {
                    match self.carry_out(step).await {
                        Ok(()) => self.succeeded(),
                        Err(error) => self.failed(&error),
                    }
                    if self.views.has_changed().unwrap_or(false) {
                        self.take_in_view();
                    }
                    continue;
                }
            };
            self.wait(wait_until).await;
        }
    }

    /// What the node proxy does, and a refusal noticed.
    fn service(&mut self, now: Instant) -> Service {
        let Some(service) = &mut self.service else {
            return Service::None;
        };
        let fresh = service.has_changed().unwrap_or(false);
        let served = service.borrow_and_update().clone();
        match served {
            Served::NotYet => Service::Asked,
            Served::Yes => Service::Serving,
            Served::Refused(reason) => {
                if fresh && self.retry.is_none_or(|moment| moment <= now) {
                    self.failed(&StepError::Refused(reason));
                }
                Service::Failed
            }
        }
    }

    async fn carry_out(&mut self, step: Step) -> Result<(), StepError> {
        let uid = &self.view.uid;
        tracing::debug!(pod = %self.view.key, ?step, "next step");
        match step {
            Step::InspectRules => {
                self.rules = match self.find()? {
                    None => Rules::Absent,
                    Some(namespace) => match self.tools.firewall.inspect(&namespace).await? {
                        Found::Nothing => Rules::Absent,
                        Found::Redirection => Rules::Installed,
                        Found::Rest => Rules::Draining {
                            since: Instant::now(),
                            proxy_told: None,
                        },
                    },
                };
            }
            Step::InstallRules => {
                if self.view.addresses.is_empty() {
                    return Err(StepError::NoAddress);
                }
                let namespace = self.tools.finder.find(uid, &self.view.addresses)?;
                if self.tools.firewall.install(&namespace).await? {
                    tracing::info!(pod = %self.view.key, "redirection rules are in");
                }
                self.rules = Rules::Installed;
                let id = namespace.id();
                self.namespace = Some(namespace);
                // The proxy was told to keep what it had, or has one that exists no more.
                if self.service.is_some() && self.given != Some(id) {
                    self.give(self.namespace.clone());
                }
            }
            Step::Annotate(annotation) => self.annotate(annotation).await?,
            Step::Serve => {
                let namespace = match &self.namespace {
                    Some(namespace) => namespace.clone(),
                    None => self.tools.finder.find(uid, &self.view.addresses)?,
                };
                self.give(Some(namespace));
            }
            Step::StopRedirecting => {
                self.rules = match self.find()? {
                    None => Rules::Absent,
                    Some(namespace) => {
                        self.tools.firewall.stop_redirecting(&namespace).await?;
                        tracing::info!(pod = %self.view.key, "new connections are direct; open ones are drained");
                        Rules::Draining {
                            since: Instant::now(),
                            proxy_told: None,
                        }
                    }
                };
            }
            Step::StopServing => {
                self.tools.proxies.stop(uid).await;
                self.service = None;
                self.given = None;
                if let Rules::Draining { proxy_told, .. } = &mut self.rules {
                    *proxy_told = Some(Instant::now());
                }
            }
            Step::RemoveRules => {
                if let Some(namespace) = self.find()? {
                    self.tools.firewall.remove(&namespace).await?;
                    tracing::info!(pod = %self.view.key, "redirection rules are removed");
                }
                self.rules = Rules::Absent;
                self.namespace = None;
            }
            Step::WaitUntil(_) | Step::AwaitProxy | Step::Settled => {}
        }
        Ok(())
    }

    /// A sandbox made anew, as after the node's reboot, has another network namespace, without rules.
    fn namespace_is_another(&self) -> bool {
        let found = self.tools.finder.find(&self.view.uid, &self.view.addresses);
        let another = found.is_ok_and(|namespace| self.given != Some(namespace.id()));
        if another {
            tracing::warn!(pod = %self.view.key, "its network namespace is another than before: enrolling it again");
        }
        another
    }

    async fn annotate(&mut self, annotation: Annotation) -> Result<(), StepError> {
        let value = match annotation {
            Annotation::None => None,
            Annotation::Pending => Some(REDIRECTION_PENDING),
            Annotation::Enabled => Some(REDIRECTION_ENABLED),
        };
        let view = &self.view;
        let writing = self
            .tools
            .writer
            .patch_annotation(&view.key, &view.uid, REDIRECTION_ANNOTATION, value);
        let written = tokio::select! {
            written = writing => Some(written),
            () = last_chance(self.tools.ending.clone()), if annotation == Annotation::None => None,
        };
        let is_last = annotation == Annotation::None && *self.tools.ending.borrow();
        match written {
            Some(Ok(revision)) => self.written = revision,
            // The watch will tell that the pod is gone.
            Some(Err(WriteError::Gone { .. })) => {}
            Some(Err(error)) if !is_last => return Err(StepError::Write(error)),
            // Where a mesh is taken down the permissions go before the agent. That peers still tunnel to a pod is less
            // than that it is left redirected to nobody.
            _ => tracing::warn!(
                pod = %self.view.key,
                "the annotation {REDIRECTION_ANNOTATION} stays: it cannot be removed, and this agent ends"
            ),
        }
        self.annotation = annotation;
        if annotation == Annotation::Enabled {
            tracing::info!(pod = %self.view.key, "enrolled");
        }
        Ok(())
    }

    /// The pod's namespace if there is one: nothing can be left in one that does not exist.
    fn find(&self) -> Result<Option<Namespace>, FindError> {
        match self.tools.finder.find(&self.view.uid, &self.view.addresses) {
            Ok(namespace) => Ok(Some(namespace)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn give(&mut self, namespace: Option<Namespace>) {
        self.given = namespace.as_ref().map(Namespace::id);
        let view = &self.view;
        self.service = Some(self.tools.proxies.serve(&view.uid, view.info.clone(), namespace));
    }

    fn succeeded(&mut self) {
        self.retry = None;
        // A proxy that refuses is asked again each time: asking alone is no success.
        if !matches!(self.service_now(), Some(Served::Refused(_) | Served::NotYet)) {
            self.pause = FIRST_PAUSE;
            self.error = None;
        }
    }

    fn service_now(&self) -> Option<Served> {
        self.service.as_ref().map(|service| service.borrow().clone())
    }

    fn failed(&mut self, error: &StepError) {
        let text = error.to_string();
        if self.error.as_ref() != Some(&text) {
            tracing::warn!(pod = %self.view.key, "{text}");
        }
        self.error = Some(text);
        self.retry = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Waits for a moment, for news of the pod, or for news from the proxies.
    async fn wait(&mut self, until: Option<Instant>) {
        let moment = async {
            match until {
                Some(moment) => tokio::time::sleep_until(moment.into()).await,
                None => std::future::pending().await,
            }
        };
        let news = async {
            if self.released {
                return std::future::pending().await;
            }
            self.views.changed().await.is_ok()
        };
        let proxies = async {
            let Some(service) = &mut self.service else {
                return std::future::pending().await;
            };
            if service.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            service.mark_changed();
        };
        tokio::select! {
            () = moment => {}
            // Without its sender there is nothing to hear of.
            Ok(()) = self.ending.changed() => self.retry = None,
            news = news => {
                // A change may be the cure.
                self.retry = None;
                self.released = !news;
                self.take_in_view();
            }
            () = proxies => {}
        }
    }

    fn take_in_view(&mut self) {
        self.view = self.views.borrow_and_update().clone();
        if self.view.revision >= self.written {
            self.annotation = self.view.annotation;
        }
    }

    fn publish(&self, actual: Actual, step: Step) {
        let view = &self.view;
        let error = match step {
            Step::Settled => None,
            Step::AwaitProxy if self.tools.proxies.connected() == 0 => {
                Some("no node proxy is connected".to_owned())
            }
            _ => self.error.clone(),
        };
        // Under the board's lock, as the agent's change of the view is: so "settled" is never said of an old view.
        self.tools.board.change(|pods| {
            let stale = self.views.has_changed().unwrap_or(false);
            let status = PodStatus {
                namespace: view.info.namespace.clone(),
                name: view.info.name.clone(),
                uid: view.uid.clone(),
                wanted: view.goal == Goal::Enrolled,
                reason: view.reason.clone(),
                state: if stale {
                    PodState::Unknown
                } else {
                    state(view.goal, actual)
                },
                settled: step == Step::Settled && !stale,
                error,
            };
            pods.insert(view.uid.clone(), status)
        });
    }
}

/// Done when the agent has been about to end for [`LAST_CHANCE`].
async fn last_chance(mut ending: watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LAST_CHANCE).await;
}

fn state(goal: Goal, actual: Actual) -> PodState {
    match (goal, actual.rules, actual.annotation, actual.service) {
        (Goal::Gone, ..) => PodState::Gone,
        (Goal::Enrolled, Rules::Installed, Annotation::Enabled, Service::Serving) => PodState::Enrolled,
        (Goal::Enrolled, Rules::Installed, ..) => PodState::Pending,
        (Goal::Enrolled, ..) => PodState::Installing,
        (Goal::Direct, Rules::Unknown, ..) => PodState::Unknown,
        (Goal::Direct, Rules::Absent, ..) => PodState::Direct,
        (Goal::Direct, Rules::Installed, ..) => PodState::Leaving,
        (Goal::Direct, Rules::Draining { .. }, ..) => PodState::Draining,
    }
}
