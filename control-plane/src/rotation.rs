//! The authority's host as far as its root is concerned: follows what is kept, leads rotations, and tells proxies which
//! roots are trusted.
//!
//! What is decided is `ca::rotation`'s. Here it is given the time, what was issued and acknowledged, and the place where
//! authorities are kept. A step is written down first and then in force: a process that ends in between is followed by
//! one that reads it. Every replica follows; the leader takes the steps.

mod report;
mod revoking;
mod share;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ca::rotation::{
    Holder, RootLife, Rotation, RotationRefused, RotationSettings, RotationState, Step, carry_out, phase_of,
};
use ca::{
    AuthorityError, DEFAULT_TTL, IssueLog, IssueRecord, Material, Moment, Observer, Refusal, Revocations,
    StoreError, Versioned,
};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::authority::Kept;
use crate::clock::Clock;
use crate::kubernetes::ca_reports::ReportStore;
use crate::xds::bundle::Bundle;
use crate::xds::service::Roots;

pub(crate) use report::at;

/// How often it is looked whether a step is due.
const TICK: Duration = Duration::from_secs(1);
/// How often replicas look at what the others tell, while a rotation is under way.
pub(crate) const SHARE: Duration = Duration::from_secs(5);
/// Of how many generations it is remembered what signed in them.
const MAX_GENERATIONS: usize = 8;

/// What a host of an authority needs.
pub(crate) struct Settings {
    pub(crate) trust_domain: String,
    /// The life of certificates when none is asked for.
    pub(crate) certificate_life: Duration,
    pub(crate) rotation: RotationSettings,
    /// How often replicas look at what the others tell, while a rotation is under way.
    pub(crate) share: Duration,
    /// What this process issues; it is told by whoever issues.
    pub(crate) issues: Arc<IssueLog>,
    /// What time it is, and how far that can be believed.
    pub(crate) clock: Clock,
}

/// The rotation of the authority of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rotations {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    kept: Arc<Kept>,
    /// Of this process, among those that share the authority.
    name: String,
    /// Where there may be other replicas.
    sharing: Option<tokio::sync::Mutex<share::Sharing>>,
    state: Mutex<State>,
    bundle: watch::Sender<Option<Arc<Bundle>>>,
    wake: Notify,
}

struct State {
    rotation: Rotation,
    found: Versioned,
    /// `found` has more than what is kept.
    is_mended: bool,
    /// What signed in which generation, the newest first.
    signers: VecDeque<(String, u64)>,
    is_leader: bool,
    /// What of `found` is revoked.
    revocations: Option<Revocations>,
    revoking: revoking::Revoking,
    /// Why what is kept could not be read or written, or a step not be taken.
    failure: Option<String>,
    /// Why what was asked for last was not revoked, although there seemed to be no reason.
    not_revoked: Option<String>,
}

impl Rotations {
    /// Of an authority with a root of its own. Waits while it cannot be reached, nor `reports`, by which this process tells
    /// other replicas that it is there before it signs anything.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) async fn open(
        kept: Arc<Kept>,
        settings: Settings,
        reports: Option<ReportStore>,
    ) -> Result<Rotations, AuthorityError> {
        let found = loop {
            match kept.load().await {
                Ok(Some(found)) => break found,
                Ok(None) => {
                    return Err(AuthorityError::Store(StoreError::Unusable {
                        place: kept.place(),
                        reason: "it is gone; start again to make another".to_owned(),
                    }));
                }
                Err(error @ StoreError::Unavailable { .. }) => {
                    tracing::warn!("{error}; asking again");
                    tokio::time::sleep(TICK).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let now = settings.clock.now();
        let rotation = match written(&found) {
            Some(state) => Rotation::resumed_as(state, phase_of(&found.stored), now, settings.rotation),
            // Of what an older version, or Istio, has signed nothing is known but the usual life.
            None => Rotation::adopted(now, settings.certificate_life.max(DEFAULT_TTL), settings.rotation),
        };
        let signer = fingerprint(&kept, &found, now.wall)?;
        let is_adopted = written(&found).is_none();
        let signers = VecDeque::from([(signer, rotation.state().generation)]);
        let revocations = found.stored.revocations();
        let name = reports.as_ref().map(|reports| reports.name().to_owned());
        let rotations = Rotations {
            shared: Arc::new(Shared {
                settings,
                kept,
                name: name.unwrap_or_else(|| format!("{:08x}", rand::random::<u32>())),
                sharing: reports.map(|store| tokio::sync::Mutex::new(share::Sharing::new(store))),
                state: Mutex::new(State {
                    rotation,
                    found,
                    signers,
                    is_leader: false,
                    revoking: revoking::Revoking::beginning_with(revocations.as_ref()),
                    revocations,
                    failure: None,
                    is_mended: false,
                    not_revoked: None,
                }),
                bundle: watch::Sender::new(None),
                wake: Notify::new(),
            }),
        };
        rotations.publish(&rotations.state());
        rotations.register(is_adopted).await?;
        Ok(rotations)
    }

    /// Follows and leads until the future is dropped. `is_leader` says whether this process takes steps.
    pub(crate) async fn run(self, is_leader: impl Fn() -> bool) {
        let kept = self.shared.kept.clone();
        self.state().is_leader = is_leader();
        let mut changed = kept.changed();
        loop {
            tokio::select! {
                () = &mut changed => {
                    let followed = self.follow().await;
                    self.note(followed);
                    changed = kept.changed();
                }
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            self.state().is_leader = is_leader();
            self.share_when_due(is_leader(), self.now()).await;
            let led = self.lead(is_leader(), self.now()).await;
            if led.is_err() {
                self.note(led);
            }
        }
    }

    /// Asks for a new root.
    ///
    /// # Errors
    /// When a rotation is under way.
    pub(crate) fn request(&self) -> Result<(), RotationRefused> {
        self.state().rotation.request(self.now().wall)?;
        tracing::info!("a rotation of the root was asked for");
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Gives the new root up.
    ///
    /// # Errors
    /// When there is none, or it signs already.
    pub(crate) fn abort(&self) -> Result<(), RotationRefused> {
        self.state().rotation.abort()?;
        tracing::info!("the rotation of the root is to be given up");
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Whether the last request that was taken up by name had this one.
    pub(crate) fn has_taken(&self, request: &str) -> bool {
        self.state().rotation.state().request.as_deref() == Some(request)
    }

    /// A request of this name is taken up.
    pub(crate) fn take(&self, request: &str) {
        self.state().rotation.take_up(request);
    }

    /// Whether this process takes steps.
    pub(crate) fn is_leader(&self) -> bool {
        self.state().is_leader
    }

    /// How it stands, for people.
    pub(crate) fn report(&self) -> Value {
        self.report_at(self.now())
    }

    fn report_at(&self, now: impl Into<Moment>) -> Value {
        let now = now.into();
        let state = self.state();
        let mut report = report::of(
            &state.found.stored,
            &state.rotation.status(now),
            &state.rotation.state().retired,
            state.is_leader,
            state.failure.as_deref(),
        );
        report["notRevoked"] = state.not_revoked.clone().into();
        report["revoked"] = state.revocations.as_ref().map_or(0, Revocations::len).into();
        report["revocations"] = state.orders(
            self.shared.settings.rotation.alone,
            &self.shared.name,
            now.earliest,
        );
        let standing = self.shared.settings.clock.standing();
        standing.add_to(&mut report);
        report
    }

    /// Takes over what is kept, if it has changed.
    async fn follow(&self) -> Result<(), AuthorityError> {
        // Who follows what signs says when it is gone.
        if let Some(mut found) = self.shared.kept.load().await?
            && found.version != self.state().found.version
        {
            let now = self.now();
            let lost = self.lost_revocations(&found);
            let is_mended = lost.is_some();
            if is_mended {
                tracing::error!(
                    "certificates that were revoked are not in {} any more; they stay revoked, and the leader writes them down again",
                    self.shared.kept.place()
                );
                found.stored.revoked = lost;
            }
            let signer = fingerprint(&self.shared.kept, &found, now.wall)?;
            self.take_over(found, signer, now);
            self.state().is_mended = is_mended;
        }
        Ok(())
    }

    /// What this process knows to be revoked, where `found` is the same authority and has an older list or none: numbers of
    /// lists only grow. (One that cannot be read does not come so far.)
    fn lost_revocations(&self, found: &Versioned) -> Option<String> {
        let state = self.state();
        let ours = state.revocations.as_ref()?;
        let kept = &found.stored;
        let is_same = kept
            .roots_pem()
            .contains(state.found.stored.current.certificate.trim());
        let is_lost = kept
            .revocations()
            .is_none_or(|theirs| theirs.number < ours.number);
        let text = state.found.stored.revoked.clone();
        text.filter(|_| is_same && is_lost)
    }

    /// Takes the step that is due, if one is, and writes down what has to be.
    async fn lead(&self, is_leader: bool, now: impl Into<Moment>) -> Result<(), AuthorityError> {
        let now = now.into();
        let (found, step, next, asked, has_expired) = {
            let mut state = self.state();
            let material = self.shared.kept.material();
            let root = RootLife {
                not_before: material.not_before(),
                not_after: material.not_after(),
            };
            let step = state.rotation.next(now, root).filter(|_| is_leader);
            let next = match step {
                Some(step) => state.rotation.after(step, now),
                None => state.rotation.state().clone(),
            };
            let asked = if is_leader {
                state.revoking.asked()
            } else {
                Default::default()
            };
            let revocations = state.revocations.as_ref();
            let has_expired =
                is_leader && revocations.is_some_and(|revoked| revoked.has_expired(now.earliest));
            (state.found.clone(), step, next, asked, has_expired)
        };
        let mut is_news = step.is_some();
        let is_mended = is_leader && self.state().is_mended;
        let mut stored = match step {
            Some(step) => carry_out(step, &found.stored, &next, now.stamp())?,
            None => {
                let before = written(&found);
                let before = before.as_ref();
                let is_longer = before.is_some_and(|before| before.longest_life < next.longest_life);
                let is_taken = before.is_none_or(|before| before.request != next.request);
                // A longer life is news that every replica may have; the rest is the leader's to write.
                is_news = is_longer || is_leader && is_taken;
                let mut stored = found.stored.clone();
                stored.rotation = Some(next.to_text());
                stored
            }
        };
        is_news |= is_mended;
        let longest_life = next.longest_life.max(self.shared.settings.certificate_life);
        if has_expired {
            is_news |= stored.forget_expired(now.earliest, now.stamp())?;
        }
        match self.revoke_in(&mut stored, &asked, now, longest_life) {
            Ok(is_new) => is_news |= is_new,
            Err(error) => {
                let mut state = self.state();
                // Asking for it again and again would hold up everything else.
                state.revoking.done(&asked);
                state.not_revoked = Some(format!("{asked}: {error}"));
                return Err(error);
            }
        }
        if !is_news {
            return Ok(());
        }
        // Before anything is signed with it, so that everything that is can be told apart.
        let fresh = Versioned {
            stored,
            version: String::new(),
        };
        let signer = fingerprint(&self.shared.kept, &fresh, now.wall)?;
        self.state().knows(&signer, next.generation);
        let version = match self.shared.kept.save(&fresh.stored, &found.version).await {
            Ok(version) => version,
            // Somebody else was first; what it wrote decides what is due.
            Err(StoreError::Conflict { .. }) => return self.follow().await,
            Err(error) => return Err(error.into()),
        };
        self.take_over(Versioned { version, ..fresh }, signer, now);
        self.state().is_mended = false;
        if !asked.is_empty() {
            let mut state = self.state();
            state.revoking.done(&asked);
            state.not_revoked = None;
        }
        if let Some(step) = step {
            self.say(step);
        }
        Ok(())
    }

    fn take_over(&self, found: Versioned, signer: String, now: Moment) {
        let mut state = self.state();
        match written(&found) {
            Some(kept) => state.rotation.reached(kept),
            None => {
                let longest_life = state.rotation.state().longest_life;
                state.rotation = Rotation::adopted(now, longest_life, self.shared.settings.rotation);
            }
        }
        let generation = state.rotation.state().generation;
        state.knows(&signer, generation);
        state.revocations = found.stored.revocations();
        state.found = found;
        state.failure = None;
        self.publish(&state);
    }

    /// Tells proxies which roots are trusted. As long as that is not written down anywhere, nothing is told: replicas
    /// might tell differently.
    fn publish(&self, state: &State) {
        let Some(kept) = written(&state.found) else { return };
        self.shared.bundle.send_if_modified(|current| {
            let revoked = state.revocations.as_ref();
            let number = revoked.map_or(0, |revoked| revoked.number);
            let now = current
                .as_ref()
                .map(|bundle| (bundle.generation, bundle.revocation_number));
            if now == Some((kept.generation, number)) {
                return false;
            }
            let roots = state.found.stored.roots_pem();
            let retired = kept.retired.concat();
            let trust_domain = &self.shared.settings.trust_domain;
            let bundle = Bundle::new(kept.generation, trust_domain, &roots, &retired, revoked);
            *current = Some(Arc::new(bundle));
            true
        });
    }

    fn say(&self, step: Step) {
        let status = self.state().rotation.status(self.now());
        let (phase, generation) = (status.phase, status.generation);
        let words = match step {
            Step::Introduce => "a new root is trusted beside the old one, which goes on signing",
            Step::Switch => "the new root signs; the old one stays trusted",
            Step::Drop => "the old root is trusted no longer; the rotation is over",
            Step::Abort => "the new root is given up; it has signed nothing",
        };
        tracing::info!(%phase, generation, holders = status.holders, "rotation of the root: {words}");
    }

    fn note(&self, outcome: Result<(), AuthorityError>) {
        let mut state = self.state();
        match outcome {
            Ok(()) => state.failure = None,
            Err(error) => {
                let text = error.to_string();
                if state.failure.as_ref() != Some(&text) {
                    tracing::error!("the authority stays as it is: {text}");
                }
                state.failure = Some(text);
            }
        }
    }

    fn now(&self) -> Moment {
        self.shared.settings.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// This signs in that generation.
    fn knows(&mut self, signer: &str, generation: u64) {
        let one = (signer.to_owned(), generation);
        if self.signers.front() != Some(&one) {
            self.signers.push_front(one);
            self.signers.truncate(MAX_GENERATIONS);
        }
    }
}

impl Observer for Rotations {
    fn issued(&self, issue: &IssueRecord) {
        let now = self.now().at(issue.at);
        let mut state = self.state();
        let signed = state
            .signers
            .iter()
            .find(|(signer, _)| *signer == issue.signed_with);
        // What signed it is not known: as old as can be.
        let generation = signed.map_or(0, |(_, generation)| *generation);
        let holder = Holder {
            node: issue.caller.node.clone(),
            namespace: issue.caller.namespace.clone(),
            pod: issue.caller.pod_name.clone(),
        };
        state
            .rotation
            .issued(now, &holder, &issue.identity, generation, issue.not_after);
    }

    fn refused(&self, _: &Refusal) {}
}

impl Roots for Rotations {
    fn bundles(&self) -> watch::Receiver<Option<Arc<Bundle>>> {
        self.shared.bundle.subscribe()
    }

    fn acknowledged(&self, proxy: &Holder, generation: u64) {
        self.state().rotation.acknowledged(proxy, generation);
    }
}

/// What stands in [`IssueRecord::signed_with`] for what this signs.
fn fingerprint(kept: &Kept, found: &Versioned, now: SystemTime) -> Result<String, AuthorityError> {
    let material = Material::of_stored(&found.stored, now).map_err(|source| AuthorityError::Unusable {
        place: kept.place(),
        source,
    })?;
    Ok(material.fingerprint().to_owned())
}

/// The state that was written down, if it can be read.
fn written(kept: &Versioned) -> Option<RotationState> {
    let text = kept.stored.rotation.as_deref()?;
    RotationState::from_text(text)
        .inspect_err(|error| tracing::error!("{error}; it begins anew"))
        .ok()
}
