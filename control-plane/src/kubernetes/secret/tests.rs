use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use ca::{
    AuthorityStore, KeyAndCertificate, ROOT_LIFE, StoreError, StoredAuthority, load_material, load_or_create,
};
use data_encoding::BASE64;
use kube_api::{ApiServer, Key, Requests, StatusError, Verb};
use serde_json::{Value, json};

use super::super::testing::{NAMESPACE, asked, client, server};
use super::{OWN, PLUGGED, SecretStore, parts};

fn store(server: &ApiServer) -> SecretStore {
    SecretStore::new(client(server), NAMESPACE, std::time::Duration::from_millis(20))
}

fn root() -> KeyAndCertificate {
    KeyAndCertificate::generate_root(SystemTime::now(), ROOT_LIFE).unwrap()
}

fn key() -> Key {
    Key::new("secrets", NAMESPACE, OWN)
}

fn stored(server: &ApiServer) -> Value {
    let mut secret = server.store().get(&key()).unwrap().value().clone();
    secret["apiVersion"] = json!("v1");
    secret["kind"] = json!("Secret");
    secret
}

fn text(secret: &Value, name: &str) -> String {
    let encoded = secret["data"][name].as_str().unwrap();
    String::from_utf8(BASE64.decode(encoded.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn everything_comes_back_as_it_was_saved() {
    let server = server().await;
    let store = store(&server);
    assert!(store.load().await.unwrap().is_none());
    let first = StoredAuthority::of(root());
    let mut version = store.save(&first, None).await.unwrap();
    let secret = stored(&server);
    assert_eq!(secret["type"], "istio.io/ca-root");
    assert_eq!(text(&secret, "ca-cert.pem"), first.current.certificate);
    assert_eq!(text(&secret, "ca-key.pem"), *first.current.key);
    assert_eq!(text(&secret, "root-cert.pem"), first.roots_pem());

    // What somebody else puts there stays.
    let mut changed = secret;
    changed["data"]["theirs"] = json!(BASE64.encode(b"x"));
    changed["metadata"]["labels"] = json!({ "backup": "yes" });
    server.put(changed).unwrap();
    assert_ne!(store.load().await.unwrap().unwrap().version, version);
    version = store.load().await.unwrap().unwrap().version;
    let next = StoredAuthority {
        next: Some(root()),
        previous: Some(root().certificate),
        rotation: Some("{\"phase\":1}".to_owned()),
        ..first.clone()
    };
    for state in [&next, &first] {
        version = store.save(state, Some(&version)).await.unwrap();
        let loaded = store.load().await.unwrap().unwrap();
        assert!(loaded.stored == *state && loaded.version == version);
        let secret = stored(&server);
        assert_eq!(text(&secret, "root-cert.pem"), state.roots_pem());
        assert_eq!(text(&secret, "theirs"), "x");
        assert_eq!(secret["metadata"]["labels"]["backup"], "yes");
    }
    assert!(stored(&server)["data"].get("ztunnel-next-key.pem").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_race_make_one_root() {
    let server = server().await;
    let racing: Vec<_> = (0..8)
        .map(|_| {
            let store = store(&server);
            tokio::spawn(async move {
                let (_, material) = load_or_create(&store, SystemTime::now()).await.unwrap();
                material.roots_pem().to_owned()
            })
        })
        .collect();
    let mut roots = Vec::new();
    for task in racing {
        roots.push(task.await.unwrap());
    }
    assert!(roots.iter().all(|root| *root == roots[0]));
    let created = asked(&server, "POST", "/secrets");
    assert_eq!(created.iter().filter(|record| record.code == 201).count(), 1);
    assert!(created.iter().all(|record| matches!(record.code, 201 | 409)));
}

#[tokio::test]
async fn of_two_writers_one_loses() {
    let server = server().await;
    let (one, two) = (store(&server), store(&server));
    let first = StoredAuthority::of(root());
    let version = one.save(&first, None).await.unwrap();
    let next = StoredAuthority {
        next: Some(root()),
        ..first.clone()
    };
    two.save(&next, Some(&version)).await.unwrap();
    let lost = one.save(&first, Some(&version)).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    // Also where the other comes between reading and writing: the server itself says so.
    let conflict = StatusError::new(409, "Conflict", "the object has been modified");
    let fault = Requests::with_verb(Verb::Update).of("secrets");
    server.faults().fail(fault, conflict, Some(1));
    let version = one.load().await.unwrap().unwrap().version;
    let lost = one.save(&first, Some(&version)).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    // One that was deleted and made again is another.
    server.remove(&key());
    let other = StoredAuthority::of(root());
    two.save(&other, None).await.unwrap();
    let lost = one.save(&first, Some(&version)).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })));
    assert!(one.load().await.unwrap().unwrap().stored == other);
}

#[tokio::test]
async fn a_half_written_secret_is_refused_and_never_replaced() {
    let server = server().await;
    let store = store(&server);
    let good = StoredAuthority::of(root());
    store.save(&good, None).await.unwrap();
    let secret = stored(&server);
    let whole = text(&secret, "ca-key.pem");
    let with = |name: &str, value: Option<&str>| {
        let mut secret = secret.clone();
        match value {
            Some(value) => secret["data"][name] = json!(BASE64.encode(value.as_bytes())),
            None => drop(secret["data"].as_object_mut().unwrap().remove(name)),
        }
        server.put(secret).unwrap();
    };
    let other = root();
    let cases = [
        ("ca-key.pem", None),
        ("ca-key.pem", Some("")),
        ("ca-key.pem", Some(&whole[..whole.len() / 2])),
        ("ca-key.pem", Some(other.key.as_str())),
        ("ca-cert.pem", None),
        ("ca-cert.pem", Some(other.certificate.as_str())),
        ("ca-cert.pem", Some("-----BEGIN CERTIFICATE-----\nMII")),
        ("ztunnel-next-cert.pem", Some(other.certificate.as_str())),
    ];
    for (name, value) in cases {
        with(name, value);
        let error = load_or_create(&store, SystemTime::now())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("istio-system/istio-ca-secret"), "{name}: {error}");
        assert!(!error.contains("MII"), "{name}: {error}");
    }
    server.put(secret.clone()).unwrap();
    assert!(load_material(&store, SystemTime::now()).await.unwrap().is_some());
    assert_eq!(asked(&server, "POST", "/secrets").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_or_refuses_is_said_to() {
    let server = server().await;
    let store = store(&server);
    let all = || Requests::any().of("secrets");
    server.faults().fail(all(), StatusError::unavailable(), None);
    let error = store.load().await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    server.faults().clear();
    let forbidden = StatusError::new(403, "Forbidden", "secrets is forbidden");
    server.faults().fail(all(), forbidden, None);
    let error = store.load().await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("get on secrets"), "{error}");
    server.faults().clear();
    server.stop().await;
    let error = store.load().await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn parts_of_any_secret_are_read() {
    let server = server().await;
    let client = client(&server);
    assert!(parts(&client, NAMESPACE, PLUGGED).await.unwrap().is_none());
    server
        .put(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": PLUGGED, "namespace": NAMESPACE },
            "data": { "tls.crt": BASE64.encode(b"one") } }))
        .unwrap();
    let parts = parts(&client, NAMESPACE, PLUGGED).await.unwrap().unwrap();
    assert_eq!(parts["tls.crt"].as_slice(), b"one");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client library that cannot read an answer is tempted to show it.
#[tokio::test]
async fn secrets_never_come_into_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // Where there is one subscriber alone, a place is on or off for all by what holds for the thread that first passes it,
    // which may be another test's. With a second one all of them are asked.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    // Other tests have passed the same places without anybody who listens.
    tracing::callsite::rebuild_interest_cache();
    let server = server().await;
    let store = store(&server);
    let kept = StoredAuthority::of(root());
    let version = store.save(&kept, None).await.unwrap();
    store.load().await.unwrap();
    store.save(&kept, Some(&version)).await.unwrap();
    // Something that is no Secret, with the key in it.
    let mut secret = stored(&server);
    let encoded = secret["data"]["ca-key.pem"].as_str().unwrap().to_owned();
    secret["data"]["extra"] = json!({ "a": 1 });
    server.put(secret).unwrap();
    let error = store.load().await.err().unwrap();
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!log.is_empty(), "the log is looked at");
    for text in [log, error.to_string()] {
        assert!(!text.contains(&encoded[40..80]), "the key is shown");
        assert!(!text.contains("PRIVATE KEY"), "the key is shown");
    }
}
