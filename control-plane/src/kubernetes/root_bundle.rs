//! Telling every namespace the roots: the ConfigMap that pods mount, as Istio's control plane writes it, the list of
//! revoked certificates where there is one, and a ClusterTrustBundle where the API has that.
//!
//! Only the leader does it. Two for a moment write the same, and what is right already is not written.

mod bundles;
mod follow;
mod trust_bundle;

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;
use ca::Authority;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::ApiError;
use bundles::{Bundles, Digest, Found, Next, Outcome};
use follow::{Event, follow};

/// How many writes are under way at once.
const WRITES: usize = 8;
/// How many changes wait to be looked at; who follows waits then.
const WAITING: usize = 256;
/// The label that Istio's has.
const LABEL: (&str, &str) = ("istio.io/config", "true");

/// What every namespace has: a ConfigMap, and the key in it.
pub(super) const MAPS: [(&str, &str); 2] = [
    ("istio-ca-root-cert", "root-cert.pem"),
    ("istio-ca-crl", "ca-crl.pem"),
];

/// What is told.
pub(crate) struct Told {
    /// Whose roots.
    pub(crate) authority: Arc<Authority>,
    /// The list of revoked certificates, where there is one.
    pub(crate) revocation_list: watch::Receiver<Option<String>>,
}

enum News {
    Namespace(Event<Namespace>),
    Map(usize, Event<ConfigMap>),
}

/// Keeps every namespace told, until the future is dropped.
pub(crate) async fn keep(client: kube::Client, told: Arc<Told>) {
    let trust_bundle = trust_bundle::keep(client.clone(), told.authority.clone());
    tokio::join!(keep_maps(client, told), trust_bundle);
}

async fn keep_maps(client: kube::Client, told: Arc<Told>) {
    let (sender, mut news) = mpsc::channel(WAITING);
    let mut following = JoinSet::new();
    let namespaces = Api::<Namespace>::all(client.clone());
    following.spawn(follow(namespaces, None, News::Namespace, sender.clone()));
    for (index, (name, _)) in MAPS.iter().enumerate() {
        let maps = Api::<ConfigMap>::all(client.clone());
        let fields = Some(format!("metadata.name={name}"));
        following.spawn(follow(
            maps,
            fields,
            move |event| News::Map(index, event),
            sender.clone(),
        ));
    }
    let mut exchanges = told.authority.exchanges();
    let mut revocation_list = told.revocation_list.clone();
    let mut bundles = Bundles::default();
    let mut values = values(&told);
    want(&mut bundles, &values);
    let mut writes = JoinSet::new();
    loop {
        let wake = loop {
            if writes.len() >= WRITES {
                break None;
            }
            match bundles.next(Instant::now()) {
                Next::Write { map, namespace } => {
                    let value = values[map].clone().unwrap_or_default();
                    writes.spawn(write(client.clone(), map, namespace, value));
                }
                Next::Wait(until) => break until,
            }
        };
        let due = async {
            match wake {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(news) = news.recv() => take(&mut bundles, news),
            Some(written) = writes.join_next() => {
                if let Ok((map, namespace, outcome)) = written {
                    bundles.written(map, &namespace, outcome, Instant::now());
                }
            }
            Ok(()) = exchanges.changed() => {
                values = self::values(&told);
                want(&mut bundles, &values);
            }
            Ok(()) = revocation_list.changed() => {
                values = self::values(&told);
                want(&mut bundles, &values);
            }
            () = due => {}
        }
    }
}

fn values(told: &Told) -> [Option<String>; 2] {
    [
        Some(told.authority.root_pem()),
        told.revocation_list.borrow().clone(),
    ]
}

fn want(bundles: &mut Bundles, values: &[Option<String>; 2]) {
    for (map, value) in values.iter().enumerate() {
        bundles.want(map, value.as_deref().map(digest_of));
    }
}

fn take(bundles: &mut Bundles, news: News) {
    let namespace = |object: &Namespace| {
        let name = object.metadata.name.clone().unwrap_or_default();
        (name, object.metadata.deletion_timestamp.is_some())
    };
    match news {
        News::Namespace(Event::Listed(all)) => bundles.namespaces_listed(all.iter().map(namespace)),
        News::Namespace(Event::Put(object)) => {
            let (name, is_ending) = namespace(&object);
            bundles.namespace(name, is_ending);
        }
        News::Namespace(Event::Gone(object)) => bundles.namespace_gone(&namespace(&object).0),
        News::Map(map, Event::Listed(all)) => {
            bundles.maps_listed(map, all.iter().map(|object| found(map, object)))
        }
        News::Map(map, Event::Put(object)) => {
            let (namespace, found) = found(map, &object);
            bundles.map(map, namespace, found);
        }
        News::Map(map, Event::Gone(object)) => bundles.map_gone(map, &found(map, &object).0),
    }
}

fn found(map: usize, object: &ConfigMap) -> (String, Found) {
    let labels = object.metadata.labels.as_ref();
    let value = object.data.as_ref().and_then(|data| data.get(MAPS[map].1));
    let found = Found {
        value: value.map(|value| digest_of(value)),
        is_labelled: labels.is_some_and(|labels| labels.get(LABEL.0).is_some_and(|value| value == LABEL.1)),
    };
    (object.metadata.namespace.clone().unwrap_or_default(), found)
}

async fn write(
    client: kube::Client,
    map: usize,
    namespace: String,
    value: String,
) -> (usize, String, Outcome) {
    let (name, key) = MAPS[map];
    let patch = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace, "labels": { LABEL.0: LABEL.1 } },
        "data": { key: value },
    });
    let api = Api::<ConfigMap>::namespaced(client, &namespace);
    let parameters = PatchParams::apply(kube_source::FIELD_MANAGER).force();
    let patch = Patch::Apply(&patch);
    let writing = api.patch(name, &parameters, &patch);
    let outcome = match tokio::time::timeout(super::ANSWER_DEADLINE, writing).await {
        Ok(Ok(_)) => {
            tracing::debug!(name, namespace, "told the roots");
            Outcome::Written(digest_of(&value))
        }
        Ok(Err(error)) => {
            let error = ApiError::of(&error);
            let hint = match &error {
                // It ends, which will be told in a moment.
                ApiError::Answer { message, .. } if message.contains("being terminated") => "",
                ApiError::Answer { code: 401 | 403, .. } => {
                    "; grant this service account create and patch on configmaps"
                }
                _ => "",
            };
            tracing::warn!(namespace, "ConfigMap {name} cannot be written now: {error}{hint}");
            Outcome::Failed
        }
        Err(_) => {
            tracing::warn!(
                namespace,
                "ConfigMap {name} cannot be written now: the API server does not answer"
            );
            Outcome::Failed
        }
    };
    (map, namespace, outcome)
}

fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests;
