//! What the replicas of an authority tell each other: the ConfigMap `ztunnel-ca-seen` beside the control plane, in which
//! each process has a key of its own. Writes of different keys do not disturb each other.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ca::rotation::{Report, Reports};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ApiError, in_time};

/// The ConfigMap.
pub(crate) const NAME: &str = "ztunnel-ca-seen";
/// The key that says since when everybody reports.
const VOUCHED: &str = "vouched";
/// The beginning of the keys of reports.
const REPORT: &str = "replica.";
/// The most that all of it may take, in bytes, somewhat less than the API takes of a ConfigMap.
const MAX_BYTES: usize = 1_000_000;
/// What a report may take in any case.
const LEAST_ROOM: usize = 16 * 1024;
/// How many reports there are at most; beyond, the oldest is taken out and counts as lost.
const MAX_REPORTS: usize = 64;

/// The reports of a control plane's replicas, as one of them sees them.
pub(crate) struct ReportStore {
    api: Api<ConfigMap>,
    namespace: String,
    /// The name of this process: two of one pod are two.
    name: String,
}

/// What is found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Since when everybody reports, and how long lives at most what was issued before.
    pub(crate) vouched: Option<(SystemTime, Duration)>,
    /// Of the others.
    pub(crate) others: Reports,
    /// Of this process.
    pub(crate) own: Option<Report>,
    /// How much room there is for the one of this process, in bytes.
    pub(crate) room: usize,
}

#[derive(Serialize, Deserialize)]
struct Vouched {
    since: u64,
    life: u64,
}

impl ReportStore {
    /// In this namespace, for this pod.
    pub(crate) fn new(client: kube::Client, namespace: &str, pod: &str) -> ReportStore {
        ReportStore {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            // Part of a key, for which not every name is good.
            name: format!("{pod}.{:08x}", rand::random::<u32>()),
        }
    }

    /// The name of this process.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        format!("ConfigMap {}/{NAME}", self.namespace)
    }

    /// All that is told; nothing when there is no such object.
    pub(crate) async fn read(&self) -> Result<Option<Found>, ApiError> {
        let found = in_time(self.api.get_opt(NAME)).await?;
        Ok(found.map(|map| self.found(&map.data.unwrap_or_default())))
    }

    /// Writes the report of this process in place of its last one, takes out those of `gone`, and says since when everybody
    /// reports, where that is new.
    pub(crate) async fn write(
        &self,
        text: &str,
        gone: &[String],
        vouched: Option<(SystemTime, Duration)>,
    ) -> Result<(), ApiError> {
        let mut data: Map<String, Value> = gone.iter().map(|name| (key(name), Value::Null)).collect();
        data.insert(key(&self.name), json!(text));
        if let Some(vouched) = vouched {
            data.insert(VOUCHED.to_owned(), json!(Vouched::text(vouched)));
        }
        let patch = json!({ "data": data });
        let parameters = PatchParams {
            field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        in_time(self.api.patch(NAME, &parameters, &Patch::Merge(&patch))).await?;
        Ok(())
    }

    /// Makes the object, with the report of this process as the first; fails with 409 where there is one.
    pub(crate) async fn create(&self, text: &str, vouched: (SystemTime, Duration)) -> Result<(), ApiError> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(NAME.to_owned());
        let part = (
            "app.kubernetes.io/part-of".to_owned(),
            "ztunnel-control-plane".to_owned(),
        );
        map.metadata.labels = Some(BTreeMap::from([part]));
        map.data = Some(BTreeMap::from([
            (key(&self.name), text.to_owned()),
            (VOUCHED.to_owned(), Vouched::text(vouched)),
        ]));
        let parameters = PostParams {
            field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        in_time(self.api.create(&parameters, &map)).await?;
        Ok(())
    }

    /// An error with what to do about it.
    pub(crate) fn words(&self, error: &ApiError) -> String {
        let hint = match error.code() {
            401 | 403 => "; grant this service account get, create and patch on configmaps there",
            _ => "",
        };
        format!("{} cannot be kept now: {error}{hint}", self.place())
    }

    fn found(&self, data: &BTreeMap<String, String>) -> Found {
        let mut found = Found::default();
        let mut taken = 0;
        for (name, text) in data {
            let report = name.strip_prefix(REPORT);
            if report == Some(&self.name) {
                found.own = Report::from_text(text).ok();
                continue;
            }
            taken += name.len() + text.len();
            if name == VOUCHED {
                found.vouched = Vouched::read(text);
            }
            if let Some(name) = report {
                let read = Report::from_text(text);
                let read = read.inspect_err(|error| tracing::warn!(name, "{error}"));
                found.others.insert(name.to_owned(), read.ok());
            }
        }
        found.room = MAX_BYTES.saturating_sub(taken).max(LEAST_ROOM);
        found
    }
}

impl Found {
    /// The reports that matter no longer, and those that cannot be kept, whose content is lost.
    pub(crate) fn to_remove(&self, now: SystemTime, longest_silence: Duration) -> (Vec<String>, Vec<String>) {
        let names = |wanted: &dyn Fn(&Report) -> bool| -> Vec<String> {
            let matching = self
                .others
                .iter()
                .filter(|(_, report)| report.as_ref().is_some_and(wanted));
            matching.map(|(name, _)| name.clone()).collect()
        };
        let spent = names(&|report| report.is_spent(now, longest_silence));
        let unreadable = self.others.iter().filter(|(_, report)| report.is_none());
        let mut lost: Vec<String> = unreadable.map(|(name, _)| name.clone()).collect();
        let left = self.others.len() - spent.len() - lost.len();
        if left >= MAX_REPORTS {
            let mut by_age: Vec<(SystemTime, String)> = self
                .others
                .iter()
                .filter(|(name, _)| !spent.contains(name))
                .filter_map(|(name, report)| Some((report.as_ref()?.made, name.clone())))
                .collect();
            by_age.sort();
            lost.extend(
                by_age
                    .into_iter()
                    .map(|(_, name)| name)
                    .take(left + 1 - MAX_REPORTS),
            );
        }
        (spent, lost)
    }
}

impl Vouched {
    fn text((since, life): (SystemTime, Duration)) -> String {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let vouched = Vouched {
            // Rounded up: nothing that is waited for may come early.
            since: since.as_secs() + 1,
            life: life.as_secs() + 1,
        };
        // Two numbers, which serde_json never refuses.
        serde_json::to_string(&vouched).unwrap_or_default()
    }

    fn read(text: &str) -> Option<(SystemTime, Duration)> {
        let Vouched { since, life } = serde_json::from_str(text).ok()?;
        let life = Duration::from_secs(life).min(ca::MAX_TTL + Duration::from_secs(2));
        let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))?;
        since.checked_add(life)?;
        Some((since, life))
    }
}

fn key(name: &str) -> String {
    format!("{REPORT}{name}")
}
