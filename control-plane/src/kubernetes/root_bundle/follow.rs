//! All objects of a kind, listed and watched, again and again.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::kubernetes::ApiError;

/// How many objects a page has.
const PAGE: u32 = 500;
/// How long a watch lasts; then everything is listed again, so that nothing stays missed.
const WATCH_SECONDS: u32 = 240;
/// How much longer a server may take to end it.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// How long a page, or the beginning of a watch, may take. For a page the server looks through objects of other names
/// too; it ends a request itself after a minute.
const ANSWER_DEADLINE: Duration = Duration::from_secs(70);
/// A watch that lasted so long was a good one.
const GOOD_WATCH: Duration = Duration::from_secs(10);
/// The pause after the first failure, doubled with each further one up to the longest. A watch that ends too early has
/// failed, however it ends.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What is told.
pub(super) enum Event<K> {
    /// These are all.
    Listed(Vec<K>),
    /// One is new or has changed.
    Put(K),
    /// One is gone.
    Gone(K),
}

/// Tells of all objects until nobody listens. `fields` is a field selector.
pub(super) async fn follow<K, N>(
    api: Api<K>,
    fields: Option<String>,
    news: impl Fn(Event<K>) -> N,
    sender: mpsc::Sender<N>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut pause = FIRST_PAUSE;
    let mut said = None;
    while !sender.is_closed() {
        let ended = match list(&api, fields.as_deref()).await {
            Ok((all, version)) => {
                if sender.send(news(Event::Listed(all))).await.is_err() {
                    return;
                }
                let began = Instant::now();
                let ended = watch(&api, fields.as_deref(), &version, &news, &sender).await;
                if began.elapsed() >= GOOD_WATCH {
                    pause = FIRST_PAUSE;
                    if ended.is_ok() {
                        continue;
                    }
                }
                ended
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let words = match error.code() {
                401 | 403 => format!(
                    "{error}; grant this service account list and watch on {}",
                    K::plural(&())
                ),
                _ => error.to_string(),
            };
            if said.as_ref() != Some(&words) {
                tracing::warn!("{} cannot be followed: {words}", K::plural(&()));
                said = Some(words);
            }
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Everything, and the version that it is of.
async fn list<K>(api: &Api<K>, fields: Option<&str>) -> Result<(Vec<K>, String), ApiError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut all = Vec::new();
    let mut token = None;
    loop {
        let parameters = ListParams {
            field_selector: fields.map(str::to_owned),
            limit: Some(PAGE),
            continue_token: token,
            ..ListParams::default()
        };
        let page = match tokio::time::timeout(ANSWER_DEADLINE, api.list(&parameters)).await {
            Ok(page) => page.map_err(|error| ApiError::of(&error))?,
            Err(_) => return Err(ApiError::Unreachable("the API server does not answer".to_owned())),
        };
        all.extend(page.items);
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok((all, page.metadata.resource_version.unwrap_or_default()));
        }
    }
}

/// Tells of changes until the watch ends.
async fn watch<K, N>(
    api: &Api<K>,
    fields: Option<&str>,
    version: &str,
    news: &impl Fn(Event<K>) -> N,
    sender: &mpsc::Sender<N>,
) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let parameters = WatchParams {
        field_selector: fields.map(str::to_owned),
        timeout: Some(WATCH_SECONDS),
        ..WatchParams::default()
    };
    let opening = tokio::time::timeout(ANSWER_DEADLINE, api.watch(&parameters, version));
    let silent = || ApiError::Unreachable("the API server does not answer".to_owned());
    let events = opening
        .await
        .map_err(|_| silent())?
        .map_err(|error| ApiError::of(&error))?;
    let mut events = pin!(events);
    let longest = Duration::from_secs(WATCH_SECONDS.into()) + WATCH_GRACE;
    let end = Instant::now() + longest;
    loop {
        let event = match tokio::time::timeout_at(end, events.next()).await {
            Ok(Some(event)) => event.map_err(|error| ApiError::of(&error))?,
            Ok(None) => return Ok(()),
            Err(_) => return Err(silent()),
        };
        let event = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Event::Put(object),
            WatchEvent::Deleted(object) => {
                tracing::debug!(name = object.name_any(), "gone");
                Event::Gone(object)
            }
            WatchEvent::Bookmark(_) => continue,
            // Most often 410: what was listed is too old.
            WatchEvent::Error(status) => {
                return Err(ApiError::Answer {
                    code: status.code,
                    message: status.message.clone(),
                });
            }
        };
        if sender.send(news(event)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
