//! Telling users of refusals by Kubernetes Events (`events.k8s.io/v1`), which `kubectl describe` and `kubectl get
//! events` show: policies that are not enforced as they are written, and certificates and streams that are refused to
//! a pod that is known.
//!
//! Whoever records an Event never waits. The same refusal again is counted, not written again ([`series`]); what is
//! new is written at a bounded rate; what does not fit is dropped and counted. Nobody without a token that verifies
//! can cause an Event.

mod series;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use objects::ObjectKey;
use serde_json::json;
use telemetry::ControlPlaneMetrics;
use tokio::sync::Notify;

use self::series::{Next, Series, Write};
use crate::leadership::micro_time;

/// Who reports, as Events name it.
const CONTROLLER: &str = "ztunnel.dev/control-plane";
/// The longest note that an API server takes, in bytes.
const MAX_NOTE: usize = 1024;
/// How long an answer is waited for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What an Event is about and says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Notice {
    pub(crate) regarding: Regarding,
    /// One word for programs, in upper camel case.
    pub(crate) reason: String,
    /// What was done.
    pub(crate) action: &'static str,
    /// For people.
    pub(crate) note: String,
}

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Regarding {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Takes Events. Cheap to clone; every clone records to the same.
#[derive(Clone, Default)]
pub(crate) struct Events {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    series: Mutex<Series>,
    more: Notify,
}

impl Events {
    /// Something a user must see has happened.
    pub(crate) fn record(&self, mut notice: Notice) {
        truncate(&mut notice.note);
        self.series().record(notice, Instant::now());
        self.shared.more.notify_one();
    }

    /// Writes what is recorded, until the future is dropped. `instance` is this pod's name.
    pub(crate) async fn write(self, client: kube::Client, instance: String, metrics: ControlPlaneMetrics) {
        let mut said = None;
        loop {
            let (next, dropped) = {
                let mut series = self.series();
                (series.next(Instant::now()), series.take_dropped())
            };
            for _ in 0..dropped {
                metrics.event_written("dropped");
            }
            let until = match next {
                Next::Write(write) => {
                    let result = send(&client, &instance, &write).await;
                    metrics.event_written(if result.is_ok() { "written" } else { "failed" });
                    let gone = matches!(result, Ok(Sent::Gone));
                    match result {
                        Ok(_) => said = None,
                        Err(problem) if said.as_ref() != Some(&problem) => {
                            tracing::warn!("an Event cannot be written: {problem}");
                            said = Some(problem);
                        }
                        Err(_) => {}
                    }
                    self.series().written(&write, gone, Instant::now());
                    continue;
                }
                Next::Wait(until) => until,
            };
            let due = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.more.notified() => {}
                () = due => {}
            }
        }
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        // Each series is right by itself, so a panic elsewhere does not spoil it.
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Sent {
    Written,
    /// The Event that was to be counted up is not there any more.
    Gone,
}

async fn send(client: &kube::Client, instance: &str, write: &Write) -> Result<Sent, String> {
    match tokio::time::timeout(ANSWER_DEADLINE, put(client, instance, write)).await {
        Ok(Ok(sent)) => Ok(sent),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(format!(
            "{}; grant this service account create and patch on events.events.k8s.io",
            status.message
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server does not answer in time".to_owned()),
    }
}

async fn put(client: &kube::Client, instance: &str, write: &Write) -> Result<Sent, kube::Error> {
    let kind = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let resource = ApiResource::from_gvk_with_plural(&kind, "events");
    let Regarding {
        api_version,
        kind,
        namespace,
        name,
        uid,
    } = &write.notice.regarding;
    let home = if namespace.is_empty() {
        "default"
    } else {
        namespace
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), home, &resource);
    let now = micro_time(SystemTime::now());
    if write.count > 1 {
        let series = json!({ "series": { "count": write.count, "lastObservedTime": now } });
        let manager = PatchParams {
            field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = api.patch(&write.name, &manager, &Patch::Merge(series)).await;
        return match patched {
            Ok(_) => Ok(Sent::Written),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Sent::Gone),
            Err(error) => Err(error),
        };
    }
    let mut event = DynamicObject::new(&write.name, &resource).within(home);
    event.data = json!({
        "eventTime": now,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": write.notice.action,
        "reason": write.notice.reason,
        "type": "Warning",
        "note": write.notice.note,
        "regarding": {
            "apiVersion": api_version, "kind": kind, "name": name, "namespace": namespace, "uid": uid,
        },
    });
    let manager = PostParams {
        field_manager: Some(kube_source::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&manager, &event).await {
        Ok(_) => Ok(Sent::Written),
        // An earlier process has told of it, which is not long ago: Events live for an hour.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Sent::Written),
        // The namespace is going, and with it whoever would look.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Sent::Written),
        Err(error) => Err(error),
    }
}

fn truncate(note: &mut String) {
    if note.len() > MAX_NOTE {
        let mut end = MAX_NOTE - '…'.len_utf8();
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
}

/// Tells of certificates that are refused to a pod that is known.
pub(crate) struct Refusals(pub(crate) Events);

impl ca::Observer for Refusals {
    fn issued(&self, _: &ca::IssueRecord) {}

    fn refused(&self, refusal: &ca::Refusal) {
        let Some(caller) = refusal
            .caller
            .as_ref()
            .filter(|caller| !caller.pod_name.is_empty())
        else {
            return;
        };
        let identity = refusal.identity.as_ref();
        let whom = identity.map_or_else(String::new, |identity| format!(" for {identity}"));
        self.0.record(Notice {
            regarding: of_pod(caller),
            reason: "CertificateRefused".to_owned(),
            action: "SignCertificate",
            note: format!(
                "a certificate{whom} is refused ({}): {}",
                refusal.code, refusal.reason
            ),
        });
    }
}

/// An object that the source told of.
pub(crate) fn of_object(key: &ObjectKey, uid: &str) -> Regarding {
    let api_version = key.kind.api_versions().first().copied();
    Regarding {
        api_version: api_version.unwrap_or_default().to_owned(),
        kind: key.kind.as_str().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: uid.to_owned(),
    }
}

/// The caller's own pod.
pub(crate) fn of_pod(caller: &ca::Caller) -> Regarding {
    Regarding {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: caller.namespace.clone(),
        name: caller.pod_name.clone(),
        uid: caller.pod_uid.clone(),
    }
}
