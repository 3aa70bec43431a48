//! Watches, and what goes wrong with them.

use std::time::{Duration, Instant, SystemTime};

use crate::common::Client;
use kube_api::{ApiServer, Key, Options, Requests, StatusError, Store, TokenSubject, Verb};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn start() -> (ApiServer, Client) {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let client = Client::new(&server);
    (server, client)
}

fn put(server: &ApiServer, name: &str, label: &str) -> String {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "of": label } },
    });
    version(server.put(object).unwrap().value())
}

fn remove(server: &ApiServer, name: &str) {
    assert!(server.remove(&Key::new("configmaps", "default", name)));
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn said(word: &str, name: &str) -> (String, String) {
    (word.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    let (server, client) = start().await;
    let first = put(&server, "a", "x");
    put(&server, "b", "x");
    let mut from = client.watch(&format!("{MAPS}?resourceVersion={first}")).await;
    assert_eq!(from.next().await, said("ADDED", "b"));
    for query in ["", "?resourceVersion=0"] {
        let mut state = client.watch(&format!("{MAPS}{query}")).await;
        assert_eq!(state.next().await, said("ADDED", "a"));
        assert_eq!(state.next().await, said("ADDED", "b"));
    }
    let query = "resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut listed = client
        .watch(&format!("{MAPS}?sendInitialEvents=true&{query}"))
        .await;
    listed.next().await;
    listed.next().await;
    let (word, bookmark) = listed.event().await;
    assert_eq!(
        (word.as_str(), &bookmark["kind"]),
        ("BOOKMARK", &json!("ConfigMap"))
    );
    assert_eq!(
        bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let mut now = client
        .watch(&format!("{MAPS}?sendInitialEvents=false&{query}"))
        .await;
    let mut one = client.watch(&format!("{MAPS}/b?resourceVersion={first}")).await;
    put(&server, "c", "x");
    assert_eq!(now.next().await, said("ADDED", "c"));
    assert_eq!(one.next().await, said("ADDED", "b"));
    put(&server, "b", "y");
    assert_eq!(one.next().await, said("MODIFIED", "b"));
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=x",
    ] {
        let refused = client.get(&format!("{MAPS}?watch=1&{query}")).await;
        assert!([400, 422].contains(&refused.code), "{query}: {}", refused.body);
    }
}

#[tokio::test]
async fn selectors_turn_changes_into_arrivals_and_departures() {
    let (server, client) = start().await;
    let mut watch = client.watch(&format!("{MAPS}?labelSelector=of%3Dx")).await;
    put(&server, "a", "x");
    put(&server, "other", "y");
    put(&server, "a", "x");
    let left = put(&server, "a", "y");
    put(&server, "a", "x");
    remove(&server, "a");
    assert_eq!(watch.next().await, said("ADDED", "a"));
    assert_eq!(watch.next().await, said("MODIFIED", "a"));
    // A deletion shows the object as the watch knew it, at the revision of the change.
    let (word, object) = watch.event().await;
    assert_eq!(
        (
            word.as_str(),
            version(&object),
            &object["metadata"]["labels"]["of"]
        ),
        ("DELETED", left, &json!("x"))
    );
    assert_eq!(watch.next().await, said("ADDED", "a"));
    assert_eq!(watch.next().await, said("DELETED", "a"));
}

#[tokio::test]
async fn an_object_made_again_is_another_one() {
    let (server, client) = start().await;
    put(&server, "a", "x");
    let mut watch = client.watch(MAPS).await;
    assert_eq!(watch.next().await, said("ADDED", "a"));
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "uid": "other", "resourceVersion": "1" } });
    server.put(object).unwrap();
    assert_eq!(watch.next().await, said("DELETED", "a"));
    let (word, object) = watch.event().await;
    assert_eq!(
        (word.as_str(), &object["metadata"]["uid"]),
        ("ADDED", &json!("other"))
    );
}

#[tokio::test]
async fn history_bookmarks_and_ends() {
    let options = Options {
        store: Store::with_history(4),
        definitions: Vec::new(),
        bookmark_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let client = Client::new(&server);
    let first = put(&server, "a", "0");
    for _ in 0..6 {
        put(&server, "a", "1");
    }
    let mut old = client.watch(&format!("{MAPS}?resourceVersion={first}")).await;
    let (word, object) = old.event().await;
    assert_eq!(
        (word.as_str(), &object["code"], &object["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert_eq!(old.try_next().await.unwrap(), None);

    let last = server.store().revision();
    let mut watch = client
        .watch(&format!(
            "{MAPS}?resourceVersion={last}&allowWatchBookmarks=1&timeoutSeconds=1"
        ))
        .await;
    // Something else happens; a bookmark tells how far the watch is.
    server
        .put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } }))
        .unwrap();
    let wanted = server.store().revision().to_string();
    let mut bookmarks = 0;
    while let Some((word, object)) = watch.try_next().await.unwrap() {
        assert_eq!(word, "BOOKMARK");
        bookmarks += usize::from(version(&object) == wanted);
    }
    assert!(bookmarks > 0);
}

#[tokio::test]
async fn cuts_replays_drops_and_freezes() {
    let (server, client) = start().await;
    let faults = server.faults();
    let first = put(&server, "a", "1");
    let path = format!("{MAPS}?resourceVersion={first}");
    let mut cut = client.watch(&path).await;
    put(&server, "b", "1");
    assert_eq!(cut.next().await, said("ADDED", "b"));
    faults.cut_watches();
    assert!(cut.try_next().await.is_err());

    let mut watch = client.watch(&path).await;
    assert_eq!(watch.next().await, said("ADDED", "b"));
    faults.replay_events(first.parse().unwrap());
    assert_eq!(watch.next().await, said("ADDED", "b"));
    faults.drop_events("configmaps", 1);
    put(&server, "lost", "1");
    put(&server, "c", "1");
    assert_eq!(watch.next().await, said("ADDED", "c"));

    faults.freeze();
    put(&server, "d", "1");
    let count = async |query: &str| {
        client.get(&format!("{MAPS}?{query}")).await.body["items"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("resourceVersion=0").await, 4);
    assert_eq!(count("").await, 5);
    let newest = server.store().revision();
    assert_eq!(
        client.get(&format!("{MAPS}?resourceVersion={newest}")).await.code,
        504
    );
    assert_eq!(client.get(&format!("{MAPS}/d?resourceVersion=0")).await.code, 404);
    faults.thaw();
    assert_eq!(watch.next().await, said("ADDED", "d"));
    assert_eq!(count("resourceVersion=0").await, 5);
}

#[tokio::test]
async fn failures_and_delays() {
    let (server, client) = start().await;
    let faults = server.faults();
    faults.fail(
        Requests::with_verb(Verb::List).of("configmaps"),
        StatusError::too_many_requests(7),
        Some(1),
    );
    faults.fail(Requests::any(), StatusError::unavailable(), Some(1));
    let first = client.get(MAPS).await;
    assert_eq!(
        (first.code, &first.body["details"]["retryAfterSeconds"]),
        (429, &json!(7))
    );
    assert_eq!(client.get(MAPS).await.code, 503);
    assert_eq!(client.get(MAPS).await.code, 200);
    faults.fail(
        Requests::with_verb(Verb::Create),
        StatusError::internal("broken"),
        None,
    );
    for _ in 0..3 {
        assert_eq!(
            client
                .post(MAPS, json!({ "metadata": { "name": "a" } }))
                .await
                .code,
            500
        );
    }
    faults.clear();
    faults.delay(Requests::with_verb(Verb::List), Duration::from_millis(200));
    let begin = Instant::now();
    assert_eq!(client.get(MAPS).await.code, 200);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    server
        .wait_for_records(|records| records.iter().filter(|record| record.code == 500).count() == 3)
        .await;
}

#[tokio::test]
async fn a_restart_keeps_objects_and_revisions() {
    let (server, client) = start().await;
    let first = put(&server, "a", "1");
    let mut watch = client.watch(&format!("{MAPS}?resourceVersion={first}")).await;
    let (store, address) = (server.store().clone(), server.address());
    server.stop().await;
    assert!(watch.try_next().await.is_err());
    let server = ApiServer::start(Options {
        store,
        address,
        ..Options::default()
    })
    .await
    .unwrap();
    put(&server, "b", "1");
    let mut watch = client.watch(&format!("{MAPS}?resourceVersion={first}")).await;
    assert_eq!(watch.next().await, said("ADDED", "b"));
}

#[tokio::test]
async fn tokens_are_bound() {
    let (server, client) = start().await;
    let made = |object: Value| {
        server.put(object).unwrap().value()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let account = made(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "s" } }));
    let node = made(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } }));
    let pod = made(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "p" },
        "spec": { "serviceAccountName": "s", "nodeName": "n" },
    }));
    let requests = "/api/v1/namespaces/default/serviceaccounts/s/token";
    let request = |audience: &str, seconds: u64, pod: &str, uid: &str| {
        json!({ "spec": {
            "audiences": [audience],
            "expirationSeconds": seconds,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid },
        } })
    };
    for (what, body, code) in [
        ("too short", request("istio-ca", 10, "p", &pod), 422),
        ("no such pod", request("istio-ca", 3600, "gone", &pod), 404),
        (
            "another pod of the name",
            request("istio-ca", 3600, "p", "other"),
            409,
        ),
        ("good", request("istio-ca", 3600, "p", &pod), 201),
    ] {
        let answer = client.post(requests, body).await;
        assert_eq!(answer.code, code, "{what}: {}", answer.body);
    }
    let token = client
        .post(requests, request("istio-ca", 3600, "p", &pod))
        .await
        .body["status"]["token"]
        .clone();
    let review = async |token: &Value, audience: &str| {
        let body = json!({ "spec": { "token": token, "audiences": [audience] } });
        let answer = client
            .post("/apis/authentication.k8s.io/v1/tokenreviews", body)
            .await;
        assert_eq!(answer.code, 201);
        answer.body["status"].clone()
    };
    let status = review(&token, "istio-ca").await;
    assert_eq!(
        (&status["authenticated"], &status["audiences"]),
        (&json!(true), &json!(["istio-ca"]))
    );
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:s");
    let extra = &status["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([pod]));
    assert_eq!(extra["authentication.kubernetes.io/node-uid"], json!([node]));
    let refused = async |token: &Value, audience: &str, what: &str| {
        let status = review(token, audience).await;
        assert!(
            status.get("authenticated").is_none() && status["error"].is_string(),
            "{what}: {status}"
        );
    };
    refused(&token, "other", "wrong audience").await;
    refused(&json!("x.y.z"), "istio-ca", "forged").await;
    let subject = TokenSubject {
        namespace: "default".into(),
        service_account: "s".into(),
        service_account_uid: account,
        audiences: vec!["istio-ca".into()],
        ..TokenSubject::default()
    };
    let old = server
        .sign_token(
            &subject,
            SystemTime::now() - Duration::from_secs(100),
            Duration::from_secs(50),
        )
        .unwrap();
    refused(&json!(old), "istio-ca", "expired").await;
    server.remove(&Key::new("pods", "default", "p"));
    refused(&token, "istio-ca", "the pod is gone").await;

    server.decide_access(|spec| spec["resourceAttributes"]["verb"] == "get");
    for (verb, allowed) in [("get", true), ("delete", false)] {
        let body = json!({ "spec": { "resourceAttributes": { "verb": verb } } });
        let answer = client
            .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
            .await;
        assert_eq!(answer.body["status"]["allowed"], allowed);
    }
}

/// From whatever revision one starts, through whatever selector: the list then, changed as the watch from there
/// tells, is the list now.
#[tokio::test]
async fn any_list_and_the_watch_from_it_give_the_list_now() {
    let seed: u64 = std::env::var("SEED").ok().map_or(7, |text| text.parse().unwrap());
    println!("SEED={seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (server, client) = start().await;
    let first = server.store().revision();
    for _ in 0..40 {
        let name = ["a", "b", "c", "d"][usize::try_from(random(4)).unwrap()];
        match random(3) {
            0 => drop(server.remove(&Key::new("configmaps", "default", name))),
            label => drop(put(
                &server,
                name,
                ["x", "y"][usize::try_from(label - 1).unwrap()],
            )),
        }
    }
    put(&server, "end", "x");
    let last = server.store().revision();
    for query in [
        "",
        "&labelSelector=of%3Dx",
        "&labelSelector=of%21%3Dx",
        "&fieldSelector=metadata.name%21%3Da",
    ] {
        let list = async |revision: u64| {
            let answer = client
                .get(&format!(
                    "{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact{query}"
                ))
                .await;
            let items = answer.body["items"].as_array().unwrap().clone();
            let known = items
                .into_iter()
                .map(|item| (item["metadata"]["name"].to_string(), version(&item)));
            known.collect::<std::collections::BTreeMap<_, _>>()
        };
        let now = list(last).await;
        for revision in first..=last {
            let mut replayed = list(revision).await;
            let sign = "allowWatchBookmarks=1&timeoutSeconds=1";
            let mut watch = client
                .watch(&format!("{MAPS}?resourceVersion={revision}&{sign}{query}"))
                .await;
            // The bookmark at the end says that everything was told; what is told meanwhile is enough to stop.
            while replayed != now {
                let Some((word, object)) = watch.try_next().await.unwrap() else {
                    break;
                };
                let name = object["metadata"]["name"].to_string();
                match word.as_str() {
                    "ADDED" | "MODIFIED" => drop(replayed.insert(name, version(&object))),
                    "DELETED" => drop(replayed.remove(&name)),
                    _ => {}
                }
            }
            assert_eq!(replayed, now, "from {revision} with {query:?}");
        }
    }
}
