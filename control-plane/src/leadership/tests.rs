//! The value that others look at; the machine is in `election`, the whole over HTTP in `over_http`.

use std::time::Duration;

use super::*;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it takes too long")
}

#[test]
fn a_term_is_over_without_anybody_saying_so() {
    let now = Instant::now();
    let until = Term::Until(now + Duration::from_secs(1));
    assert!(until.leads(now));
    assert!(!until.leads(now + Duration::from_secs(1)));
    assert!(Term::Always.leads(now) && !Term::None.leads(now));
}

/// Says when it is dropped.
struct Dropped(tokio::sync::mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn work_is_done_while_leading() {
    let (sender, term) = watch::channel(Term::None);
    let leadership = Leadership { term };
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    let work = move || {
        let says = says.clone();
        async move {
            let _ = says.send("begun");
            let _dropped = Dropped(says);
            std::future::pending().await
        }
    };
    let task = tokio::spawn(leadership.clone().while_leading(work));
    assert!(!leadership.is_leader());
    let later = || Term::Until(Instant::now() + Duration::from_secs(3600));
    sender.send_replace(later());
    assert_eq!(in_time(said.recv()).await, Some("begun"));
    assert!(leadership.is_leader());
    // The term ends by itself, and another begins.
    sender.send_replace(Term::Until(Instant::now()));
    assert_eq!(in_time(said.recv()).await, Some("dropped"));
    let mut waiting = leadership.clone();
    in_time(waiting.lost()).await;
    sender.send_replace(later());
    assert_eq!(in_time(said.recv()).await, Some("begun"));
    in_time(waiting.elected()).await;
    task.abort();
}

/// A process that is stopped while its work waits for an answer, and goes on after its term.
#[tokio::test]
async fn who_goes_on_after_its_term_takes_no_step_more() {
    for round in 0..4 {
        let (sender, term) = watch::channel(Term::None);
        let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
        let answer = std::sync::Arc::new(tokio::sync::Notify::new());
        let answered = answer.clone();
        let work = move || {
            let (says, answered) = (says.clone(), answered.clone());
            async move {
                let _ = says.send("asks");
                answered.notified().await;
                let _ = says.send("writes");
            }
        };
        let task = tokio::spawn(Leadership { term }.while_leading(work));
        // However slow the machine is, the work has begun before the term comes near its end.
        sender.send_replace(Term::Until(Instant::now() + Duration::from_secs(3600)));
        assert_eq!(in_time(said.recv()).await, Some("asks"), "round {round}");
        let until = Instant::now() + Duration::from_millis(300);
        sender.send_replace(Term::Until(until));
        // It waits for that end now.
        tokio::task::yield_now().await;
        // Nothing else in this thread runs meanwhile, timers neither.
        answer.notify_one();
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        tokio::task::yield_now().await;
        assert!(said.try_recv().is_err(), "round {round}");
        // The next term begins with the first step.
        sender.send_replace(Term::Always);
        assert_eq!(in_time(said.recv()).await, Some("asks"), "round {round}");
        task.abort();
    }
}

/// Candidates over HTTP, with an API server that keeps the lease.
mod over_http {
    use std::time::Duration;

    use kube_api::{ApiServer, Key, Options, Requests, StatusError, Verb};
    use serde_json::{Value, json};
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::super::*;
    use super::in_time;

    const LEASES: &str = "leases.coordination.k8s.io";

    struct Stands {
        leadership: Leadership,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    fn stand(server: &ApiServer, pod: &str) -> Stands {
        let api = kube_source::ApiServer::at(&server.url(), None, None).unwrap();
        let candidate = Candidate {
            client: api.client(),
            pod: pod.to_owned(),
            namespace: "istio-system".to_owned(),
            timing: Timing {
                lease: Duration::from_secs(3),
                renew_deadline: Duration::from_secs(2),
                retry: Duration::from_millis(200),
            },
        };
        let stop = CancellationToken::new();
        let (leadership, election) = elect(candidate, stop.clone());
        let task = tokio::spawn(election);
        Stands {
            leadership,
            stop,
            task,
        }
    }

    async fn server() -> ApiServer {
        let server = ApiServer::start(Options::default()).await.unwrap();
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "istio-system" } });
        server.put(namespace).unwrap();
        server
    }

    fn key() -> Key {
        Key::new(LEASES, "istio-system", lease::LEASE_NAME)
    }

    fn spec(server: &ApiServer, field: &str) -> Value {
        let lease = server.store().get(&key());
        lease.map_or(Value::Null, |lease| lease.value()["spec"][field].clone())
    }

    fn holder(server: &ApiServer) -> String {
        spec(server, "holderIdentity")
            .as_str()
            .unwrap_or("nobody")
            .to_owned()
    }

    #[tokio::test]
    async fn who_stops_makes_room_at_once() {
        let server = server().await;
        let mut one = stand(&server, "one");
        in_time(one.leadership.elected()).await;
        assert!(holder(&server).starts_with("one_"));
        let mut two = stand(&server, "two");
        // It has looked, and does not lead.
        let reads = |uri: &str| uri.contains("/leases/");
        in_time(server.wait_for_records(|records| {
            records
                .iter()
                .filter(|record| record.code == 200 && reads(&record.uri))
                .count()
                > 3
        }))
        .await;
        assert!(!two.leadership.is_leader());
        one.stop.cancel();
        in_time(one.task).await.unwrap();
        assert!(!one.leadership.is_leader());
        in_time(two.leadership.elected()).await;
        assert!(holder(&server).starts_with("two_"));
        assert_eq!(spec(&server, "leaseTransitions"), 1);
        assert_eq!(spec(&server, "leaseDurationSeconds"), 3);
    }

    #[tokio::test]
    async fn who_cannot_renew_stops_leading() {
        let server = server().await;
        let mut one = stand(&server, "one");
        in_time(one.leadership.elected()).await;
        let writes = Requests::with_verb(Verb::Update).of(LEASES);
        server.faults().fail(writes, StatusError::unavailable(), None);
        in_time(one.leadership.lost()).await;
        assert!(holder(&server).starts_with("one_"), "it is still written there");
        server.faults().clear();
        in_time(one.leadership.elected()).await;

        // Somebody deletes it: it is made anew.
        server.remove(&key());
        let made = |uri: &str| uri.contains("/leases") && !uri.contains("/leases/");
        in_time(server.wait_for_records(|records| {
            records
                .iter()
                .filter(|record| record.code == 201 && made(&record.uri))
                .count()
                == 2
        }))
        .await;
        in_time(one.leadership.elected()).await;
        assert!(holder(&server).starts_with("one_"));
        one.stop.cancel();
        in_time(one.task).await.unwrap();
        assert_eq!(holder(&server), "");
    }
}
