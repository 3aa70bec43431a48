//! What anybody is told.

use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::{Batch, SourceError, WatchStatus};
use objects::Kind;

use super::*;

/// A source that cannot be read.
struct Failing;

impl ObjectSource for Failing {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        stream::pending().boxed()
    }

    fn status(&self) -> Vec<WatchStatus> {
        let kind = |kind, state, reason: Option<&'static str>| WatchStatus {
            kind,
            state,
            unreadable: 0,
            reason,
            problem: reason
                .map(|_| "pods is forbidden: User \"system:serviceaccount:istio-system:plane\"".to_owned()),
        };
        vec![
            kind(Kind::Pod, "waiting", Some("refused")),
            kind(Kind::Service, "waiting", None),
            kind(Kind::Node, "present", Some("unreachable")),
        ]
    }
}

#[tokio::test]
async fn who_is_not_ready_says_why_in_a_word_and_not_what_the_api_said() {
    let proxies = Proxies::default();
    let monitoring = Monitoring {
        metrics: ControlPlaneMetrics::new("1.0"),
        debug: Debug::new(proxies.clone(), None),
        proxies,
        progress: Progress::default(),
        standstill: Standstill::default(),
        leadership: Leadership::always(),
        source: Arc::new(Failing),
        authority: Arc::default(),
    };
    for path in ["/ready", "/healthz/ready"] {
        let question = Question {
            method: Method::GET,
            path: path.to_owned(),
            query: String::new(),
        };
        let answer = monitoring.answer(question).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let awaited = json!({ "Pod": "refused", "Service": "being read" });
        assert_eq!(said["awaited"], awaited, "{path}");
    }
}
