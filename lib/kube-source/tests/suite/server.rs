//! An API server that behaves, and what may happen to it.

use std::time::Duration;

use kube_api::{ApiServer, Key, Options, Requests, StatusError, TokenSubject, Verb, mesh_definitions};
use kube_source::{KindState, KubernetesStore, Wanted};
use objects::{Kind, Spec};
use serde_json::{Value, json};

use crate::support::{Reader, store};

const POLICIES: &str = "authorizationpolicies.security.istio.io";

fn account(name: &str, content: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "demo", "labels": { "content": content } } })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "demo" }, "spec": spec })
}

fn definition_of_policies() -> Value {
    mesh_definitions()
        .into_iter()
        .find(|definition| definition["metadata"]["name"] == POLICIES)
        .unwrap()
}

fn key(name: &str) -> Key {
    Key::new("serviceaccounts", "demo", name)
}

async fn with_accounts(names: &[&str]) -> (ApiServer, Reader) {
    let server = ApiServer::start(Options::default()).await.unwrap();
    for name in names {
        server.put(account(name, "x")).unwrap();
    }
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    let batch = reader.next().await;
    assert!(batch.initial && batch.changes.len() == names.len());
    (server, reader)
}

/// Waits until the watch of this resource is open, so that what follows is told by it.
async fn watched(server: &ApiServer, resource: &str) {
    let is_watch = |uri: &str| uri.contains(&format!("/{resource}?")) && uri.contains("watch=true");
    server
        .wait_for_records(|records| records.iter().any(|record| is_watch(&record.uri)))
        .await;
}

#[tokio::test]
async fn changes_arrive_whatever_happens_to_the_watch() {
    let (server, mut reader) = with_accounts(&["a", "b", "c"]).await;
    watched(&server, "serviceaccounts").await;
    server.put(account("a", "y")).unwrap();
    reader.until(&["a=y", "b=x", "c=x"]).await;

    // It is cut: what happens meanwhile is told by the next.
    server.faults().cut_watches();
    server.put(account("d", "x")).unwrap();
    server.remove(&key("b"));
    reader.until(&["a=y", "c=x", "d=x"]).await;

    // It is cut, and the server has forgotten what happened since: everything is listed, and what is gone found.
    let busy = StatusError::unavailable();
    let watches = Requests::with_verb(Verb::Watch).of("serviceaccounts");
    server.faults().fail(watches, busy, Some(1));
    server.faults().cut_watches();
    server.remove(&key("c"));
    server.put(account("a", "z")).unwrap();
    server.store().compact();
    reader.until(&["a=z", "d=x"]).await;

    // Old events come again: nothing becomes old by them.
    server.put(account("a", "last")).unwrap();
    reader.until(&["a=last", "d=x"]).await;
    server.faults().replay_events(1);
    server.put(account("e", "x")).unwrap();
    reader.until(&["a=last", "d=x", "e=x"]).await;
    assert_eq!(reader.words(), ["a=last", "d=x", "e=x"]);
}

#[tokio::test]
async fn a_server_that_has_only_just_begun_is_not_believed_to_have_no_policies() {
    let options = Options {
        definitions: vec![definition_of_policies()],
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    server
        .put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "demo" } }))
        .unwrap();
    server
        .put(policy("denial", json!({ "action": "DENY", "rules": [{}] })))
        .unwrap();
    // It does not know its roles yet, and does not serve its custom kinds.
    let definitions = Requests::any().of("customresourcedefinitions.apiextensions.k8s.io");
    let unknown = StatusError::new(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
    server
        .faults()
        .fail(definitions, StatusError::forbidden("no role"), Some(2));
    server
        .faults()
        .fail(Requests::any().of(POLICIES), unknown, Some(3));
    let mut reader = Reader::new(&store(&server.url(), &[Kind::AuthorizationPolicy]));
    let first = reader.next().await;
    assert!(first.initial && first.changes.len() == 1, "{first:?}");
}

#[tokio::test]
async fn a_server_with_another_history_is_believed() {
    let (server, mut reader) = with_accounts(&["a", "b"]).await;
    for turn in 0..50 {
        server.put(account("a", &turn.to_string())).unwrap();
    }
    reader.until(&["a=49", "b=x"]).await;
    let address = server.address();
    server.stop().await;
    // As after a restore: fewer revisions, other objects.
    let options = Options {
        address,
        definitions: Vec::new(),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    server.put(account("a", "old")).unwrap();
    server.put(account("c", "x")).unwrap();
    reader.until(&["a=old", "c=x"]).await;
    server.put(account("c", "y")).unwrap();
    reader.until(&["a=old", "c=y"]).await;
}

#[tokio::test]
async fn a_server_that_is_stopped_for_a_while_goes_on() {
    let (server, mut reader) = with_accounts(&["a"]).await;
    watched(&server, "serviceaccounts").await;
    let (store, address) = (server.store().clone(), server.address());
    server.stop().await;
    assert!(reader.problem().await.contains("serviceaccounts"));
    let options = Options {
        address,
        store,
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    server.put(account("b", "x")).unwrap();
    reader.until(&["a=x", "b=x"]).await;
    let lists = |uri: &str| uri.contains("/serviceaccounts?") && uri.contains("limit=500");
    let records = server.records();
    assert!(
        !records.iter().any(|record| lists(&record.uri)),
        "the watch goes on where it was: {records:#?}"
    );
}

#[tokio::test]
async fn long_lists_come_in_pages_and_slow_ones_are_waited_for() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    for index in 0..1100 {
        server.put(account(&format!("a{index:04}"), "x")).unwrap();
    }
    let lists = Requests::with_verb(Verb::List).of("serviceaccounts");
    server.faults().delay(lists.clone(), Duration::from_millis(200));
    server
        .faults()
        .fail(lists, StatusError::too_many_requests(1), Some(1));
    let mut reader = Reader::new(&store(&server.url(), &[Kind::ServiceAccount]));
    let batch = reader.next().await;
    assert!(batch.initial);
    assert_eq!(batch.changes.len(), 1100);
    let pages = server.records();
    let pages = pages
        .iter()
        .filter(|record| record.uri.contains("limit=500") && record.code == 200);
    assert_eq!(pages.count(), 3);
    assert!(reader.problems[0].contains("429"), "{:?}", reader.problems);
}

#[tokio::test]
async fn a_kind_that_is_not_there_is_waited_for_and_may_go() {
    let options = Options {
        definitions: Vec::new(),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    server.put(account("a", "x")).unwrap();
    let store = store(&server.url(), &[Kind::ServiceAccount, Kind::AuthorizationPolicy]);
    let mut reader = Reader::new(&store);
    let batch = reader.next().await;
    assert!(batch.initial && batch.changes.len() == 1);
    let state = |store: &KubernetesStore| store.status()[1].state;
    assert_eq!(state(&store), KindState::Absent);

    server.put(definition_of_policies()).unwrap();
    server.put(policy("p", json!({ "rules": [{}] }))).unwrap();
    reader.until(&["a=x", "p="]).await;
    assert_eq!(state(&store), KindState::Present);

    // As an API server removes a definition: its objects first.
    server.remove(&Key::new(POLICIES, "demo", "p"));
    server.remove(&Key::new(
        "customresourcedefinitions.apiextensions.k8s.io",
        "",
        POLICIES,
    ));
    reader.until(&["a=x"]).await;
    server.put(definition_of_policies()).unwrap();
    server.put(policy("q", json!({ "rules": [{}] }))).unwrap();
    reader.until(&["a=x", "q="]).await;
}

#[tokio::test]
async fn policies_do_not_vanish_because_the_server_says_404_for_a_while() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    server.put(policy("p", json!({ "rules": [{}] }))).unwrap();
    let mut reader = Reader::new(&store(
        &server.url(),
        &[Kind::ServiceAccount, Kind::AuthorizationPolicy],
    ));
    reader.until(&["p="]).await;
    watched(&server, "authorizationpolicies").await;
    let mut absent = StatusError::expired("no such kind");
    absent.code = 404;
    absent.reason = "NotFound";
    for verb in [Verb::Watch, Verb::List] {
        let requests = Requests::with_verb(verb).of(POLICIES);
        server.faults().fail(requests, absent.clone(), Some(3));
    }
    server.faults().cut_watches();
    let refused = |code: u16| {
        server.wait_for_records(move |records| {
            let of = |record: &&kube_api::Record| record.uri.contains("/authorizationpolicies?");
            records
                .iter()
                .filter(of)
                .filter(|record| record.code == code)
                .count()
                >= 2
        })
    };
    refused(404).await;
    server.put(account("a", "x")).unwrap();
    reader.until(&["a=x", "p="]).await;
    server.put(policy("q", json!({ "rules": [{}] }))).unwrap();
    reader.until(&["a=x", "p=", "q="]).await;
}

#[tokio::test]
async fn a_policy_with_invalid_content_is_there_and_closed() {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let nonsense = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "ports": ["many"] } }] }] });
    server.put(policy("p", nonsense)).unwrap();
    server.put(policy("q", json!("not even a mapping"))).unwrap();
    let mut reader = Reader::new(&store(&server.url(), &[Kind::AuthorizationPolicy]));
    let batch = reader.next().await;
    assert_eq!(batch.changes.len(), 2);
    let policies = reader.objects.values();
    assert!(
        policies
            .into_iter()
            .all(|object| matches!(object.spec, Spec::AuthorizationPolicy(_)))
    );
    // And it changes when it is put right.
    server.put(policy("q", json!({ "rules": [{}] }))).unwrap();
    let batch = reader.next().await;
    assert_eq!(batch.changes.len(), 1);
}

#[tokio::test]
async fn tls_and_tokens_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let authority = ca::Authority::load_or_create(&folder.path().join("ca"), now).unwrap();
    let names = ["127.0.0.1".to_owned()];
    let certificate = authority
        .issue_server_certificate(&names, Duration::from_secs(3600), now)
        .unwrap();
    let identity = tls::server_auth::ServerIdentity::from_pem(&certificate.chain_pem, &certificate.key);
    let options = Options {
        require_token: true,
        tls: Some(tls::server_auth::Acceptor::new(identity.unwrap())),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    server.put(account("a", "x")).unwrap();
    let (roots, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    std::fs::write(&roots, "").unwrap();
    std::fs::write(&token, "not a token").unwrap();
    let api = kube_source::ApiServer::at(&server.url(), Some(&roots), Some(&token)).unwrap();
    let mut reader = Reader::new(&KubernetesStore::new(api, Wanted::of([Kind::ServiceAccount])));

    // Both files are read again until they are right, and the problem is said.
    let problem = reader.problem().await;
    assert!(problem.contains("ca.crt"), "{problem}");
    std::fs::write(&roots, authority.root_pem()).unwrap();
    let problem = reader.problem().await;
    assert!(problem.contains("401"), "{problem}");
    let subject = TokenSubject {
        namespace: "istio-system".to_owned(),
        service_account: "control-plane".to_owned(),
        service_account_uid: "1".to_owned(),
        audiences: Vec::new(),
        pod: None,
        node: None,
    };
    let signed = server
        .sign_token(&subject, now, Duration::from_secs(3600))
        .unwrap();
    std::fs::write(&token, signed).unwrap();
    reader.until(&["a=x"]).await;
    watched(&server, "serviceaccounts").await;
    server.put(account("b", "x")).unwrap();
    reader.until(&["a=x", "b=x"]).await;
}
