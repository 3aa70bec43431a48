//! What a server may do to a watch, said exactly.

use objects::Kind;
use serde_json::json;

use crate::script::{Answer, Asked, Server, event, list, quiet, refusal, status, watch};
use crate::support::{Reader, account, store};

const ACCOUNTS: &str = "/api/v1/serviceaccounts";

/// A server of service accounts alone.
fn of_accounts(asked: &Asked) {
    assert_eq!(asked.path, ACCOUNTS);
}

#[tokio::test]
async fn pages_are_put_together_and_bookmarks_remembered() {
    let (events, answer) = watch();
    let answer = std::sync::Mutex::new(Some(answer));
    let server = Server::start(move |asked| {
        of_accounts(asked);
        match (asked.is_watch(), asked.query("continue")) {
            (false, "") => list("", &[account("a", 1, "x")], "more"),
            (false, "more") => list("", &[account("b", 2, "x")], "most"),
            (false, "most") => list("10", &[account("c", 3, "x")], ""),
            (false, other) => panic!("{other}"),
            (true, _) => answer.lock().unwrap().take().unwrap_or_else(quiet),
        }
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    assert!(reader.next().await.initial);
    assert_eq!(reader.words(), ["a=x", "b=x", "c=x"]);
    let first = server.asked()[0].clone();
    assert_eq!(
        (first.query("limit"), first.query("resourceVersion")),
        ("500", "")
    );
    let began = server.until(Asked::is_watch).await;
    assert_eq!(began.query("resourceVersion"), "10");
    assert_eq!(began.query("allowWatchBookmarks"), "true");

    events.send(event("MODIFIED", &account("b", 11, "y"))).unwrap();
    reader.until(&["a=x", "b=y", "c=x"]).await;
    let bookmark =
        json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "resourceVersion": "25" } });
    events.send(event("BOOKMARK", &bookmark)).unwrap();
    // The server ends the watch, as it does every few minutes.
    drop(events);
    let again = server.until(|asked| asked.is_watch() && asked.turn == 1).await;
    assert_eq!(again.query("resourceVersion"), "25");
    assert!(reader.problems.is_empty(), "{:?}", reader.problems);
}

/// A server that has `a` and `b`, refuses to go on from there as `refuse` says, and then has `b` and `c`.
async fn after_a_refusal(refuse: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) {
    let server = Server::start(move |asked| {
        of_accounts(asked);
        match (asked.is_watch(), asked.turn) {
            (false, 0) => list("10", &[account("a", 1, "x"), account("b", 2, "x")], ""),
            (false, _) => list("30", &[account("b", 2, "x"), account("c", 20, "x")], ""),
            (true, _) => refuse(asked).unwrap_or_else(quiet),
        }
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    reader.next().await;
    assert_eq!(reader.words(), ["a=x", "b=x"]);
    reader.until(&["b=x", "c=x"]).await;
    let now = server
        .until(|asked| asked.is_watch() && asked.query("resourceVersion") == "30")
        .await;
    assert!(now.turn >= 1);
}

#[tokio::test]
async fn a_watch_that_is_answered_with_410_is_begun_anew() {
    after_a_refusal(|asked| (asked.turn == 0).then(|| refusal(410, "Expired"))).await;
}

#[tokio::test]
async fn a_watch_that_ends_with_410_is_begun_anew() {
    after_a_refusal(|asked| {
        (asked.turn == 0).then(|| {
            let (events, answer) = watch();
            events.send(event("ERROR", &status(410, "Expired"))).unwrap();
            answer
        })
    })
    .await;
}

#[tokio::test]
async fn a_version_from_the_future_is_of_another_history() {
    after_a_refusal(|asked| {
        (asked.turn == 0).then(|| {
            let mut answer = status(504, "Timeout");
            answer["message"] = json!("Too large resource version: 10, current: 3");
            answer["details"] =
                json!({ "causes": [{ "reason": "ResourceVersionTooLarge" }], "retryAfterSeconds": 1 });
            Answer::Json(504, answer)
        })
    })
    .await;
}

#[tokio::test]
async fn errors_that_stay_lead_to_a_list() {
    after_a_refusal(|asked| (asked.turn < 3).then(|| refusal(500, "InternalError"))).await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_not_lost() {
    after_a_refusal(|asked| {
        (asked.turn == 0).then(|| {
            let (events, answer) = watch();
            events.send("{ this is no JSON\n".to_owned()).unwrap();
            answer
        })
    })
    .await;
}

#[tokio::test]
async fn a_list_that_expires_between_its_pages_is_begun_anew() {
    let server = Server::start(|asked| {
        of_accounts(asked);
        match (asked.is_watch(), asked.turn) {
            (false, 0) => list("10", &[account("a", 1, "x"), account("b", 2, "x")], "more"),
            (false, 1) => refusal(410, "Expired"),
            (false, _) => list("30", &[account("b", 2, "x"), account("c", 20, "x")], ""),
            (true, _) => quiet(),
        }
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    let batch = reader.next().await;
    assert!(batch.initial && batch.changes.len() == 2, "{batch:?}");
    assert_eq!(reader.words(), ["b=x", "c=x"]);
    let larger = server.until(|asked| asked.turn == 2).await;
    assert_eq!(larger.query("limit"), "2000");
}

#[tokio::test]
async fn a_server_that_was_away_is_asked_where_the_watch_stopped() {
    let (events, answer) = watch();
    let answer = std::sync::Mutex::new(Some(answer));
    let server = Server::start(move |asked| match asked.is_watch() {
        false => list("10", &[account("a", 1, "x")], ""),
        true => answer.lock().unwrap().take().unwrap_or_else(quiet),
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    reader.next().await;
    events.send(event("ADDED", &account("b", 11, "x"))).unwrap();
    reader.until(&["a=x", "b=x"]).await;
    let address = server.address;
    drop(server);
    let problem = reader.problem().await;
    assert!(problem.contains("serviceaccounts"), "{problem}");
    assert!(problem.contains(&address.to_string()), "{problem}");

    let (events, answer) = watch();
    let answer = std::sync::Mutex::new(Some(answer));
    let server = Server::start_at(address, move |asked| match asked.is_watch() {
        false => {
            assert_eq!(asked.query("limit"), "1", "nothing is to be listed");
            list("11", &[], "")
        }
        true => answer.lock().unwrap().take().unwrap_or_else(quiet),
    })
    .await;
    let began = server.until(Asked::is_watch).await;
    assert_eq!(began.query("resourceVersion"), "11");
    events.send(event("DELETED", &account("a", 12, "x"))).unwrap();
    reader.until(&["b=x"]).await;
}

#[tokio::test]
async fn a_reader_without_permission_is_told_what_to_grant() {
    let server = Server::start(|asked| match asked.turn {
        0 => refusal(403, "Forbidden"),
        _ if asked.is_watch() => quiet(),
        _ => list("10", &[account("a", 1, "x")], ""),
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    let problem = reader.problem().await;
    assert!(problem.contains("grant") && problem.contains("403"), "{problem}");
    reader.until(&["a=x"]).await;
}

#[tokio::test]
async fn an_older_version_of_a_kind_is_read_where_the_newer_is_not_served() {
    let server = Server::start(|asked| {
        if asked.is_watch() {
            return quiet();
        }
        match asked.path.as_str() {
            "/apis/security.istio.io/v1beta1/authorizationpolicies" => {
                let policy = json!({ "metadata": { "name": "p", "namespace": "demo" }, "spec": {} });
                list("10", &[policy], "")
            }
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions" => refusal(403, "Forbidden"),
            _ => refusal(404, "NotFound"),
        }
    })
    .await;
    let mut reader = Reader::new(&store(&server.url(), &[Kind::AuthorizationPolicy]));
    reader.until(&["p="]).await;
    let watched = server.until(Asked::is_watch).await;
    assert!(watched.path.contains("v1beta1"), "{}", watched.path);
}

#[tokio::test]
async fn only_the_pods_of_a_node_are_asked_for() {
    let server = Server::start(|asked| {
        if asked.is_watch() {
            quiet()
        } else {
            list("1", &[], "")
        }
    })
    .await;
    let wanted = kube_source::Wanted::for_node("node-17");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let api = kube_source::ApiServer::at(&server.url(), None, Some(&token)).unwrap();
    let mut reader = Reader::new(&kube_source::KubernetesStore::new(api, wanted));
    assert!(reader.next().await.changes.is_empty());
    for is_watch in [false, true] {
        let pods = server
            .until(|asked| asked.path == "/api/v1/pods" && asked.is_watch() == is_watch)
            .await;
        assert_eq!(pods.query("fieldSelector"), "spec.nodeName=node-17");
        assert_eq!(pods.authorization.as_deref(), Some("Bearer secret"));
    }
    let paths = |asked: Asked| asked.path;
    let paths: std::collections::BTreeSet<_> = server.asked().into_iter().map(paths).collect();
    assert_eq!(
        paths.into_iter().collect::<Vec<_>>(),
        ["/api/v1/namespaces", "/api/v1/pods"]
    );
}

#[tokio::test]
async fn with_the_stream_its_watches_end() {
    let (events, answer) = watch();
    let answer = std::sync::Mutex::new(Some(answer));
    let server = Server::start(move |asked| match asked.is_watch() {
        false => list("10", &[account("a", 1, "x")], ""),
        true => answer.lock().unwrap().take().unwrap_or_else(quiet),
    })
    .await;
    let store = store(&server.url(), &[Kind::ServiceAccount]);
    let mut reader = Reader::new(&store);
    reader.next().await;
    server.until(Asked::is_watch).await;
    assert_eq!(store.status().len(), 1);
    drop(reader);
    let closed = tokio::time::timeout(crate::support::PATIENCE, events.closed()).await;
    assert!(closed.is_ok(), "the watch is still open");
    assert!(store.status().is_empty());
}
