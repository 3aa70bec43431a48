//! What a cluster asks of the program, over HTTP/1.1: `/metrics`, `/ready`, `/live`, `/version`. Anybody may ask, so
//! it tells no more than numbers; `debug` tells the rest, to its owner alone.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ca::Authority;
use hyper::{Method, StatusCode};
use object_store::ObjectSource;
use objects::Kind;
use serde_json::json;
use telemetry::{ControlPlaneMetrics, ControlPlaneState, OPENMETRICS_CONTENT_TYPE, Watch};

use crate::debug::Debug;
use crate::http::{Answer, Pages, Question};
use crate::leadership::Leadership;
use crate::progress::Progress;
use crate::standstill::{Now, Standstill};
use crate::xds::proxies::Proxies;

/// What answers are made of. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Monitoring {
    pub(crate) metrics: ControlPlaneMetrics,
    pub(crate) debug: Debug,
    pub(crate) proxies: Proxies,
    pub(crate) progress: Progress,
    pub(crate) standstill: Standstill,
    pub(crate) leadership: Leadership,
    pub(crate) source: Arc<dyn ObjectSource>,
    /// Empty until there is one.
    pub(crate) authority: Arc<OnceLock<Arc<Authority>>>,
}

impl Pages for Monitoring {
    async fn answer(&self, question: Question) -> Answer {
        if question.method != Method::GET && question.method != Method::HEAD {
            let error = json!({ "error": "only GET is answered" });
            return Answer::json(StatusCode::METHOD_NOT_ALLOWED, &error);
        }
        match question.path.as_str() {
            "/metrics" => {
                self.metrics.set(&self.state());
                self.metrics.set_queue(self.progress.waiting());
                Answer::text(StatusCode::OK, OPENMETRICS_CONTENT_TYPE, self.metrics.encode())
            }
            "/ready" | "/healthz/ready" => self.ready(Now::read()),
            "/live" | "/healthz/live" => self.live(Instant::now()),
            "/version" => Answer::json(StatusCode::OK, &version()),
            _ => {
                let pages = ["/metrics", "/ready", "/live", "/version"];
                let error = json!({ "error": "no such page", "pages": pages });
                Answer::json(StatusCode::NOT_FOUND, &error)
            }
        }
    }
}

impl Monitoring {
    /// Ready is who serves proxies: everything has been read and compiled once. The server's own words for what is
    /// wrong are in the log.
    fn ready(&self, now: Now) -> Answer {
        if self.standstill.is_behind(now) {
            let error = json!({ "error": "this process stood still, and reads everything anew" });
            return Answer::json(StatusCode::SERVICE_UNAVAILABLE, &error);
        }
        if self.debug.view().is_some() {
            return Answer::json(StatusCode::OK, &json!({ "status": "ready" }));
        }
        let status = self.source.status();
        let awaited = status.iter().filter(|kind| kind.state == "waiting");
        let mut awaited: BTreeMap<_, _> = awaited
            .map(|kind| (kind.kind.as_str(), kind.reason.unwrap_or("being read")))
            .collect();
        if self.progress.is_awaiting_settings() {
            awaited.insert(Kind::ConfigMap.as_str(), "the mesh's settings cannot be read");
        }
        let error = json!({ "error": "not everything is read and compiled yet", "awaited": awaited });
        Answer::json(StatusCode::SERVICE_UNAVAILABLE, &error)
    }

    /// Alive is who makes progress; an API that is away is no reason to be restarted.
    fn live(&self, now: Instant) -> Answer {
        match self.progress.stuck(now) {
            None => Answer::json(StatusCode::OK, &json!({ "status": "alive" })),
            Some(waited) => {
                let error = json!({ "error": "changes are not compiled", "waitedSeconds": waited.as_secs() });
                Answer::json(StatusCode::SERVICE_UNAVAILABLE, &error)
            }
        }
    }

    fn state(&self) -> ControlPlaneState {
        let count = self.proxies.count();
        let (workloads, services, policies, revision) = self.debug.view().map_or((0, 0, 0, 0), |view| {
            let services = view.addresses.services();
            let workloads = view.addresses.len() - services;
            (workloads, services, view.policies.len(), view.revision)
        });
        let watches = self.source.status().into_iter().map(|status| Watch {
            kind: status.kind.as_str().to_owned(),
            state: status.state,
            failing: status.problem.is_some(),
            unreadable: status.unreadable,
        });
        let authority = self.authority.get();
        let expiry = authority.and_then(|authority| seconds(authority.not_after()));
        let objects = self.progress.objects();
        let objects = objects
            .iter()
            .map(|(kind, count)| (kind.as_str().to_owned(), *count));
        ControlPlaneState {
            proxies: count.by_version.into_iter().collect(),
            unacknowledged: count.unacknowledged,
            workloads,
            services,
            policies,
            objects: objects.collect(),
            revision,
            watches: watches.collect(),
            leader: self.leadership.is_leader(),
            root_expiry: expiry,
            issuer_expiry: expiry,
        }
    }
}

fn version() -> serde_json::Value {
    json!({ "component": "control-plane", "version": env!("CARGO_PKG_VERSION") })
}

fn seconds(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Counts what becomes of requests for certificates.
pub(crate) struct CountIssues(pub(crate) ControlPlaneMetrics);

impl ca::Observer for CountIssues {
    fn issued(&self, _: &ca::IssueRecord) {
        self.0.certificate_issued();
    }

    fn refused(&self, refusal: &ca::Refusal) {
        self.0.certificate_refused(refusal.code, refusal.caller.is_none());
    }
}

#[cfg(test)]
mod tests;
