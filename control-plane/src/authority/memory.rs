//! What outlives this process of a plugged-in authority's roots, so that a restart in the middle of their exchange forgets
//! none. In a Secret: whoever can write it decides whom the mesh trusts.

use std::time::Duration;

use ca::Moment;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;

use super::learned::{Learned, last_written};
use super::{FIRST_PAUSE, LAST_PAUSE};
use crate::clock::Clock;
use crate::kubernetes::{ApiError, in_time};

/// The Secret.
pub(crate) const NAME: &str = "ztunnel-ca-roots";
/// Its type: not one that Kubernetes gives a meaning.
pub(crate) const TYPE: &str = "ztunnel.dev/ca-roots";
const KEY: &str = "roots.json";

/// Where it is kept; nowhere without a cluster.
pub(super) struct Memory {
    kept: Option<(Api<Secret>, String)>,
    written: Option<String>,
    said: Option<String>,
}

impl Memory {
    /// In this namespace of the cluster.
    pub(super) fn new(cluster: Option<&(kube::Client, String)>) -> Memory {
        let kept = cluster.map(|(client, namespace)| {
            let place = format!("Secret {namespace}/{NAME}");
            (Api::namespaced(client.clone(), namespace), place)
        });
        Memory {
            kept,
            written: None,
            said: None,
        }
    }

    /// What an earlier process, or another replica, has learned, as far as it is kept; of an authority with these roots.
    /// Waits while the API server does not answer. The clock is held against what is found.
    pub(super) async fn load(&self, life: Duration, roots: &[String], clock: &Clock) -> Learned {
        let Some((api, place)) = &self.kept else {
            return Learned::new(life, roots, clock.now());
        };
        let mut pause = FIRST_PAUSE;
        let found = loop {
            match in_time(api.get_opt(NAME)).await {
                Ok(found) => break found,
                Err(error) if matches!(error.code(), 401 | 403) => {
                    tracing::warn!(
                        "{}; of roots that were exchanged before nothing is known",
                        words(place, &error)
                    );
                    break None;
                }
                Err(error) => {
                    tracing::warn!("{}; asking again", words(place, &error));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        };
        let found = found.map(|secret| text(&secret));
        if let Some(written) = found.as_ref().and_then(|kept| last_written(kept, life)) {
            clock.begins_with(written);
        }
        let now = clock.now();
        let resumed = found.map(|kept| Learned::resumed(life, roots, &kept, now));
        match resumed {
            None => Learned::new(life, roots, now),
            Some(Ok(learned)) => learned,
            Some(Err(error)) => {
                tracing::error!("{place} cannot be read ({error}); it is written anew");
                Learned::new(life, roots, now)
            }
        }
    }

    /// Writes down what has changed, together with what others have; `plugged` are the roots that the authority comes with.
    /// What cannot be written is said, and tried again.
    pub(super) async fn keep(&mut self, learned: &mut Learned, plugged: &[String], now: Moment) {
        let Some((api, place)) = &self.kept else { return };
        if self.written.as_ref() == Some(&learned.to_text(plugged)) {
            return;
        }
        let said = match write(api, learned, plugged, now).await {
            Ok(text) => {
                self.written = Some(text);
                None
            }
            // Another replica was first; what it wrote is read at the next look.
            Err(error) if error.code() == 409 => None,
            Err(error) => Some(words(place, &error)),
        };
        if let Some(said) = said.as_ref().filter(|_| self.said != said) {
            tracing::warn!("{said}; a restart forgets which roots are still needed");
        }
        self.said = said;
    }
}

async fn write(
    api: &Api<Secret>,
    learned: &mut Learned,
    plugged: &[String],
    now: Moment,
) -> Result<String, ApiError> {
    let found = in_time(api.get_opt(NAME)).await?;
    if let Some(found) = &found
        && let Err(error) = learned.merge(&text(found), plugged, now)
    {
        tracing::error!("what Secret {NAME} says cannot be read ({error}); it is written anew");
    }
    let text = learned.to_text(plugged);
    let parameters = PostParams {
        field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let is_new = found.is_none();
    let mut secret = found.unwrap_or_default();
    secret.metadata.name = Some(NAME.to_owned());
    let data = secret.data.get_or_insert_default();
    data.insert(KEY.to_owned(), ByteString(text.clone().into_bytes()));
    if is_new {
        secret.type_ = Some(TYPE.to_owned());
        in_time(api.create(&parameters, &secret)).await?;
    } else {
        in_time(api.replace(NAME, &parameters, &secret)).await?;
    }
    Ok(text)
}

fn text(secret: &Secret) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(KEY));
    bytes.map_or_else(String::new, |bytes| {
        String::from_utf8_lossy(&bytes.0).into_owned()
    })
}

fn words(place: &str, error: &ApiError) -> String {
    let hint = match error.code() {
        401 | 403 => "; grant this service account get, create and update on it",
        _ => "",
    };
    format!("{place} cannot be kept now: {error}{hint}")
}
