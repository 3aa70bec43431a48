//! Telling the other replicas what this one has seen, and taking over what they tell.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ca::rotation::{Phase, Report, Reports};
use ca::{AuthorityError, Moment, StoreError};

use super::{Rotations, TICK};
use crate::kubernetes::ApiError;
use crate::kubernetes::ca_reports::{Found, ReportStore};

/// A report is renewed that often at least, so that others know that its process is there.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// One that is longer, in bytes, is written more seldom.
const LARGE: usize = 64 * 1024;
const LARGE_PAUSE: Duration = Duration::from_secs(15);
/// How long the last report may take when the process ends.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// What was told and heard. Whoever holds it reads or writes.
pub(super) struct Sharing {
    store: ReportStore,
    /// The last look, and the generation that it was at.
    looked: Option<(SystemTime, u64)>,
    /// What was written last, and its length.
    written: Option<(Report, usize)>,
    /// What was told at the last look.
    heard: Reports,
    /// This process issues nothing any more.
    has_left: bool,
    said: Option<String>,
}

impl Sharing {
    pub(super) fn new(store: ReportStore) -> Sharing {
        Sharing {
            store,
            looked: None,
            written: None,
            heard: Reports::new(),
            has_left: false,
            said: None,
        }
    }

    /// Those that were heard, and are gone though they still mattered.
    fn has_vanished(&self, found: &Found, now: SystemTime, longest_silence: Duration) -> bool {
        self.heard.iter().any(|(name, report)| {
            let matters = report
                .as_ref()
                .is_none_or(|report| !report.is_spent(now, longest_silence));
            matters && !found.others.contains_key(name)
        })
    }

    /// Whether it has to be written again.
    fn is_news(&self, found: &Found, report: &Report, refresh: Duration) -> bool {
        let (Some((written, length)), Some(own)) = (&self.written, &found.own) else {
            return true;
        };
        if own.made != written.made || written.generation != report.generation {
            return true;
        }
        let age = report.made.duration_since(written.made).unwrap_or(refresh);
        let is_too_soon = *length > LARGE && age < LARGE_PAUSE;
        age >= refresh || !is_too_soon && !written.says_as(report)
    }
}

impl Rotations {
    /// Tells others that this process is there; returns when it may sign. Whoever leads the others reads it before the next
    /// step, and what is kept is read again here afterwards: so nobody signs with what is older than the others know.
    pub(super) async fn register(&self, is_adopted: bool) -> Result<(), AuthorityError> {
        let Some(sharing) = &self.shared.sharing else {
            return Ok(());
        };
        let mut sharing = sharing.lock().await;
        while let Err(error) = self.try_register(&mut sharing, is_adopted, self.now()).await {
            // Of two that make the object at once one reads what the other made.
            if error.code() != 409 {
                tracing::warn!("{}; nothing is signed before that", sharing.store.words(&error));
                tokio::time::sleep(TICK).await;
            }
        }
        drop(sharing);
        loop {
            match self.follow().await {
                Err(AuthorityError::Store(error @ StoreError::Unavailable { .. })) => {
                    tracing::warn!("{error}; asking again");
                    tokio::time::sleep(TICK).await;
                }
                other => return other,
            }
        }
    }

    async fn try_register(
        &self,
        sharing: &mut Sharing,
        is_adopted: bool,
        now: Moment,
    ) -> Result<(), ApiError> {
        let found = sharing.store.read().await?;
        // Before an authority is taken over from somebody else nobody has reported.
        let known = found
            .as_ref()
            .and_then(|found| found.vouched)
            .filter(|_| !is_adopted);
        let (report, vouched) = {
            let mut state = self.state();
            let vouched = known.unwrap_or((now.latest, state.rotation.state().longest_life));
            state.rotation.vouched_for(vouched.0, vouched.1);
            (state.rotation.report(now, false), vouched)
        };
        let text = report.to_text(usize::MAX);
        match found {
            None => sharing.store.create(&text, vouched).await?,
            Some(_) => {
                let new = known.is_none().then_some(vouched);
                sharing.store.write(&text, &[], new).await?;
            }
        }
        sharing.written = Some((report, text.len()));
        Ok(())
    }

    /// Shares when it is time to.
    pub(super) async fn share_when_due(&self, is_leader: bool, now: Moment) {
        let Some(sharing) = &self.shared.sharing else {
            return;
        };
        let mut sharing = sharing.lock().await;
        let (generation, pause) = self.pace();
        let is_due = sharing.looked.is_none_or(|(at, of)| {
            of != generation || now.wall.duration_since(at).map_or(true, |since| since >= pause)
        });
        if !is_due || sharing.has_left {
            return;
        }
        let said = match self.share_now(&mut sharing, is_leader, now).await {
            Ok(()) => None,
            Err(error) => Some(sharing.store.words(&error)),
        };
        if let Some(said) = said.as_ref().filter(|_| sharing.said != said) {
            tracing::warn!("{said}; a rotation of the root waits longer");
        }
        sharing.said = said;
        sharing.looked = Some((now.wall, generation));
    }

    /// Takes over what others tell, and tells what they do not know.
    #[cfg(test)]
    pub(super) async fn share(&self, is_leader: bool, now: impl Into<Moment>) -> Result<(), ApiError> {
        let sharing = self.shared.sharing.as_ref().unwrap();
        self.share_now(&mut *sharing.lock().await, is_leader, now.into())
            .await
    }

    async fn share_now(&self, sharing: &mut Sharing, is_leader: bool, now: Moment) -> Result<(), ApiError> {
        let (generation, _) = self.pace();
        let Some(mut found) = sharing.store.read().await? else {
            return self.begin_anew(sharing, now).await;
        };
        let (report, gone, refresh) = {
            let mut state = self.state();
            let longest_silence = state.rotation.longest_silence();
            let (spent, lost) = found.to_remove(now.earliest, longest_silence);
            if sharing.has_vanished(&found, now.earliest, longest_silence) || is_leader && !lost.is_empty() {
                state.rotation.lost(now);
            }
            let gone: BTreeSet<String> = if is_leader {
                spent.into_iter().chain(lost).collect()
            } else {
                BTreeSet::new()
            };
            found.others.retain(|name, _| !gone.contains(name));
            sharing.heard.clone_from(&found.others);
            // What was read before a step says nothing after it.
            if state.rotation.state().generation == generation {
                state.rotation.told(found.others.clone());
            }
            let report = state.rotation.report(now, false);
            let refresh = (longest_silence / 4).clamp(self.shared.settings.share, LONGEST_PAUSE);
            (report, gone, refresh)
        };
        if gone.is_empty() && !sharing.is_news(&found, &report, refresh) {
            return Ok(());
        }
        let text = report.to_text(found.room);
        let gone: Vec<String> = gone.into_iter().collect();
        sharing.store.write(&text, &gone, None).await?;
        sharing.written = Some((report, text.len()));
        Ok(())
    }

    /// Somebody has deleted what all have told.
    async fn begin_anew(&self, sharing: &mut Sharing, now: Moment) -> Result<(), ApiError> {
        let (report, vouched) = {
            let mut state = self.state();
            state.rotation.lost(now);
            let life = state.rotation.state().longest_life;
            (state.rotation.report(now, false), (now.latest, life))
        };
        tracing::warn!("{} is gone; it is made anew", sharing.store.place());
        let text = report.to_text(usize::MAX);
        sharing.store.create(&text, vouched).await?;
        sharing.written = Some((report, text.len()));
        Ok(())
    }

    /// Tells others that this process issues nothing any more, and what of its certificates is in use, so that whoever comes
    /// after it need not wait for what it has not seen.
    pub(crate) async fn leave(&self) {
        let Some(sharing) = &self.shared.sharing else {
            return;
        };
        let leaving = async {
            let mut sharing = sharing.lock().await;
            sharing.has_left = true;
            let room = sharing.store.read().await?.map_or(usize::MAX, |found| found.room);
            let report = self.state().rotation.report(self.now(), true);
            sharing.store.write(&report.to_text(room), &[], None).await
        };
        let problem = match tokio::time::timeout(LEAVE_DEADLINE, leaving).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        tracing::warn!(
            "what was issued here cannot be told to other replicas: {problem}; a rotation of the root waits until it has expired"
        );
    }

    /// The generation, and how long to wait between two looks.
    fn pace(&self) -> (u64, Duration) {
        let state = self.state();
        let kept = state.rotation.state();
        let pause = match kept.phase {
            Phase::Steady => {
                (state.rotation.longest_silence() / 8).clamp(self.shared.settings.share, LONGEST_PAUSE)
            }
            Phase::Introduced | Phase::Switched => self.shared.settings.share,
        };
        (kept.generation, pause)
    }
}
