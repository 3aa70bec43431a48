//! The control plane asks the API server for what the chart allows, and the chart allows nothing that it does not ask for.

// A test ends where something it needs fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ca::GrpcIssuer;
use charts::permissions::{Grants, Permission, needs};
use clap::Parser;
use control_plane::Config;
use grpc_channel::{ChannelConfig, Token};
use kube_api::{ApiServer, Options, TokenSubject, mesh_definitions};
use mesh::Identity;
use object_store::ObjectWriter;
use serde_json::{Value, json};
use tls::Issuer;
use tls::server_auth::RootSource;
use tokio_util::sync::CancellationToken;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is granted and not seen here, each with the reason.
const NOT_SEEN: [(&str, &str); 3] = [
    (
        "patch events.events.k8s.io",
        "when the same is refused again a minute later",
    ),
    (
        "attest signers.certificates.k8s.io",
        "checked by Kubernetes when a ClusterTrustBundle is written",
    ),
    ("update secrets", "when the root is rotated"),
];

#[tokio::test]
async fn what_is_asked_is_granted_and_nothing_more() {
    let rendered = charts::rendered("defaults").unwrap();
    let grants = Grants::of_account(&rendered, "ztunnel-control-plane");
    let mut definitions = mesh_definitions();
    definitions.push(trust_bundles());
    let server = ApiServer::start(Options {
        definitions,
        ..Options::default()
    })
    .await
    .unwrap();
    for object in objects() {
        server.put(object).unwrap();
    }

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("debug");
    let config = config(&rendered, &server.url(), socket.to_str().unwrap());
    let shutdown = CancellationToken::new();
    let store = config.store().unwrap();
    let writer: std::sync::Arc<dyn ObjectWriter> = store.clone();
    let starting = control_plane::start(config, store, Some(writer), shutdown.clone());
    let running = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap();

    // A proxy that calls is reviewed; it finds the roots where pods do.
    let roots = eventually("the roots are written", || {
        let maps = server.store().all("configmaps");
        let map = maps
            .iter()
            .find(|map| map.value()["metadata"]["name"] == "istio-ca-root-cert")?;
        Some(map.value()["data"]["root-cert.pem"].as_str()?.to_owned())
    })
    .await;
    let root_file = folder.path().join("root.pem");
    std::fs::write(&root_file, roots).unwrap();
    let mut channel = ChannelConfig::new(
        format!("https://{}", running.address()),
        RootSource::Path(root_file),
    );
    channel.alternative_name = Some("istiod.istio-system.svc".to_owned());
    channel.token = Token::Inline(token(&server));
    let issuer = GrpcIssuer::for_node(channel.channel().unwrap());
    let web = Identity::new("cluster.local", "demo", "web");
    let certificate = issuer.issue(&web, Duration::from_secs(600)).await;
    assert_eq!(certificate.unwrap().identity(), &web);

    let asked = || -> BTreeSet<Permission> {
        let records = server.records().into_iter();
        records
            .flat_map(|record| needs(&record.method, &record.uri, record.code))
            .map(|need| need.permission)
            .collect()
    };
    let expected: BTreeSet<Permission> = grants
        .all()
        .into_iter()
        .filter(|granted| NOT_SEEN.iter().all(|(name, _)| *name != granted.to_string()))
        .collect();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !asked().is_superset(&expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let words = |permissions: Vec<&Permission>| -> Vec<String> {
        permissions.into_iter().map(ToString::to_string).collect()
    };
    let never = words(expected.difference(&asked()).collect());
    assert!(
        waited.is_ok(),
        "granted by the chart, and never asked for: {never:#?}"
    );
    for record in server.records() {
        for need in needs(&record.method, &record.uri, record.code) {
            assert!(
                grants.allow(&need),
                "not granted by the chart: {need:?}, for {} {}",
                record.method,
                record.uri
            );
        }
    }
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, running.stopped())
        .await
        .unwrap()
        .unwrap();
}

/// What the chart starts, but where it listens and finds the API.
fn config(rendered: &[Value], url: &str, socket: &str) -> Config {
    let deployment = rendered
        .iter()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .unwrap();
    let elsewhere = ["--listen=", "--debug-socket=", "--monitoring-listen="];
    let arguments = arguments
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .filter(|argument| !elsewhere.iter().any(|flag| argument.starts_with(flag)));
    let (listen, monitoring) = ("--listen=127.0.0.1:0", "--monitoring-listen=127.0.0.1:0");
    let here = [
        "--kubernetes-url",
        url,
        "--debug-socket",
        socket,
        listen,
        monitoring,
    ];
    Config::parse_from(["control-plane"].into_iter().chain(arguments).chain(here))
}

/// A mesh with one of everything that something is written on.
fn objects() -> Vec<Value> {
    let of = |api: &str, kind: &str, namespace: &str, name: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": { "namespace": namespace, "name": name }, "spec": spec });
    let pod = |namespace: &str, name: &str, ip: &str| {
        let mut pod = of(
            "v1",
            "Pod",
            namespace,
            name,
            json!({ "nodeName": "node-a", "serviceAccountName": name,
            "containers": [{ "name": "a", "image": "a" }] }),
        );
        pod["status"] = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] });
        pod
    };
    let account = |namespace: &str, name: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": name } });
    let namespace =
        |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    vec![
        namespace("istio-system"),
        namespace("demo"),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-a" } }),
        account("istio-system", "ztunnel"),
        account("demo", "web"),
        pod("istio-system", "ztunnel", "10.0.0.1"),
        pod("demo", "web", "10.0.0.2"),
        of(
            "security.istio.io/v1",
            "PeerAuthentication",
            "demo",
            "strict",
            json!({ "mtls": { "mode": "STRICT" } }),
        ),
        of(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "demo",
            "allow",
            json!({ "rules": [{}] }),
        ),
        // Its author is told that node proxies do not see methods.
        of(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            "demo",
            "methods",
            json!({ "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] }),
        ),
        of(
            "networking.istio.io/v1",
            "ServiceEntry",
            "demo",
            "outside",
            json!({ "hosts": ["outside.example.com"], "resolution": "DNS", "ports": [{ "number": 443, "name": "tls" }] }),
        ),
        waylaid(of(
            "v1",
            "Service",
            "demo",
            "web",
            json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }] }),
        )),
        waylaid(of(
            "networking.istio.io/v1",
            "WorkloadEntry",
            "demo",
            "machine",
            json!({ "address": "192.0.2.7" }),
        )),
    ]
}

/// The object, with a waypoint of which its author is told something.
fn waylaid(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({ "istio.io/use-waypoint": "gone" });
    object
}

/// The kind that newer API servers have for roots.
fn trust_bundles() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "clustertrustbundles.certificates.k8s.io" },
        "spec": {
            "group": "certificates.k8s.io",
            "names": { "plural": "clustertrustbundles", "singular": "clustertrustbundle", "kind": "ClusterTrustBundle" },
            "scope": "Cluster",
            "versions": [{ "name": "v1beta1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    })
}

/// The token of the node proxy's pod, as its kubelet would ask for it.
fn token(server: &ApiServer) -> String {
    let uid = |plural: &str, name: &str| {
        let all = server.store().all(plural);
        let found = all
            .iter()
            .find(|object| object.value()["metadata"]["name"] == name);
        found.unwrap().value()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let subject = TokenSubject {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        service_account_uid: uid("serviceaccounts", "ztunnel"),
        audiences: vec!["istio-ca".to_owned()],
        pod: Some(("ztunnel".to_owned(), uid("pods", "ztunnel"))),
        node: Some(("node-a".to_owned(), uid("nodes", "node-a"))),
    };
    server
        .sign_token(&subject, SystemTime::now(), Duration::from_secs(600))
        .unwrap()
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}
