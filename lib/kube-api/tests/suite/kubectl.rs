//! The real kubectl against the server: it discovers, reads, writes and watches as against any other.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{Kubectl, kubectl};
use kube_api::{ApiServer, Options};
use serde_json::{Value, json};

async fn start() -> Option<(ApiServer, Kubectl)> {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let kubectl = kubectl(&server)?;
    Some((server, kubectl))
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  nodeName: a
  containers:
  - name: main
    image: web:1
"#;

const POLICY: &str = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn creates_and_reads() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    assert_eq!(
        kubectl.with_input(&["create", "-f", "-"], POD),
        "pod/web created\n"
    );
    let table = kubectl.run(&["get", "pods"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(lines[1][..4], ["web", "0/1", "Pending", "0"]);
    let wide = kubectl.run(&["get", "po", "-o", "wide", "-A"]);
    assert!(wide.starts_with("NAMESPACE") && wide.contains("NODE"), "{wide}");
    let object: Value = serde_json::from_str(&kubectl.run(&["get", "pod", "web", "-o", "json"])).unwrap();
    assert_eq!(
        (&object["kind"], &object["spec"]["nodeName"]),
        (&json!("Pod"), &json!("a"))
    );
    assert!(
        kubectl
            .run(&["get", "pod/web", "-o", "yaml"])
            .contains("\napiVersion: v1\n")
            || kubectl
                .run(&["get", "pod/web", "-o", "yaml"])
                .starts_with("apiVersion: v1\n")
    );
    assert_eq!(
        kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"]),
        "pod/web\n"
    );
    assert_eq!(
        kubectl.run(&["get", "pods", "--field-selector", "spec.nodeName=b", "-o", "name"]),
        ""
    );
    assert_eq!(
        kubectl.run(&["create", "namespace", "demo"]),
        "namespace/demo created\n"
    );
    assert_eq!(
        kubectl.run(&["create", "configmap", "c", "-n", "demo", "--from-literal=a=b"]),
        "configmap/c created\n"
    );
    assert_eq!(
        kubectl.run(&["create", "serviceaccount", "s", "-n", "demo"]),
        "serviceaccount/s created\n"
    );
    assert_eq!(
        kubectl.run(&["get", "cm", "c", "-n", "demo", "-o", "jsonpath={.data.a}"]),
        "b"
    );
    assert!(
        kubectl
            .fails(&["create", "namespace", "demo"])
            .contains("AlreadyExists")
    );
    assert!(kubectl.fails(&["get", "pod", "gone"]).contains("NotFound"));
    assert!(
        kubectl
            .fails(&["get", "nonsense"])
            .contains("doesn't have a resource type")
    );
    assert_eq!(
        kubectl
            .run(&["create", "token", "s", "-n", "demo"])
            .split('.')
            .count(),
        3
    );
    assert_eq!(kubectl.run(&["auth", "can-i", "get", "pods"]), "yes\n");
    let resources = kubectl.run(&["api-resources"]);
    for word in ["pods", "peerauthentications", "tokenreviews", "gatewayclasses"] {
        assert!(resources.contains(word), "{word} in {resources}");
    }
    assert!(kubectl.run(&["describe", "pod", "web"]).contains("Node:"));
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_labels_patches_and_deletes() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], POD)
            .contains("pod/web created")
    );
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], POD)
            .contains("pod/web unchanged")
    );
    let changed = POD.replace("labels: {app: web}", "labels: {app: web, tier: front}");
    assert!(
        kubectl
            .with_input(&["diff", "-f", "-"], &changed)
            .contains("+    tier: front")
    );
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], &changed)
            .contains("pod/web configured")
    );
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], POD)
            .contains("pod/web configured")
    );
    assert_eq!(
        kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.metadata.labels}"]),
        r#"{"app":"web"}"#
    );
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], POLICY)
            .contains("strict created")
    );
    let table = kubectl.run(&["get", "peerauthentications"]);
    assert!(table.contains("MODE") && table.contains("STRICT"), "{table}");
    let permissive = POLICY.replace("STRICT", "PERMISSIVE");
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], &permissive)
            .contains("strict configured")
    );
    let generation = ["get", "pa", "strict", "-o", "jsonpath={.metadata.generation}"];
    assert_eq!(kubectl.run(&generation), "2");

    assert_eq!(
        kubectl.run(&["label", "namespace", "default", "istio.io/dataplane-mode=ambient"]),
        "namespace/default labeled\n"
    );
    assert!(
        kubectl
            .fails(&["label", "namespace", "default", "istio.io/dataplane-mode=none"])
            .contains("overwrite")
    );
    assert_eq!(
        kubectl.run(&["label", "ns", "default", "istio.io/dataplane-mode-"]),
        "namespace/default unlabeled\n"
    );
    assert_eq!(
        kubectl.run(&["annotate", "pod", "web", "a/b=c"]),
        "pod/web annotated\n"
    );
    assert_eq!(
        kubectl.run(&["annotate", "pa", "strict", "a/b=c"]),
        "peerauthentication.security.istio.io/strict annotated\n"
    );
    let strategic = r#"{"spec":{"containers":[{"name":"main","image":"web:2"}]}}"#;
    assert_eq!(
        kubectl.run(&["patch", "pod", "web", "-p", strategic]),
        "pod/web patched\n"
    );
    assert_eq!(
        kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.spec.containers[*].image}"]),
        "web:2"
    );
    let operations = r#"[{"op":"replace","path":"/spec/mtls/mode","value":"STRICT"}]"#;
    kubectl.run(&["patch", "pa", "strict", "--type=json", "-p", operations]);
    let merge = r#"{"status":{"conditions":[{"type":"Accepted","status":"True"}]}}"#;
    kubectl.run(&[
        "patch",
        "pa",
        "strict",
        "--type=merge",
        "--subresource=status",
        "-p",
        merge,
    ]);
    assert_eq!(kubectl.run(&generation), "3");
    assert_eq!(
        kubectl.run(&["wait", "pa/strict", "--for=condition=Accepted", "--timeout=20s"]),
        "peerauthentication.security.istio.io/strict condition met\n"
    );
    assert!(
        kubectl
            .fails(&["patch", "pa", "strict", "--type=strategic", "-p", merge])
            .contains("is not supported")
    );
    assert!(
        kubectl
            .with_input(&["replace", "-f", "-"], &permissive)
            .contains("strict replaced")
    );

    assert_eq!(kubectl.run(&["delete", "pod", "web"]), "pod \"web\" deleted\n");
    assert_eq!(kubectl.run(&["get", "pods", "-o", "name"]), "");
    kubectl.run(&["create", "namespace", "demo"]);
    kubectl.run(&["create", "configmap", "c", "-n", "demo"]);
    assert_eq!(
        kubectl.run(&["delete", "namespace", "demo"]),
        "namespace \"demo\" deleted\n"
    );
    assert!(kubectl.fails(&["get", "namespace", "demo"]).contains("NotFound"));
    kubectl.run(&["delete", "crd", "peerauthentications.security.istio.io"]);
    // It remembers the kind and asks for it.
    let refused = kubectl.fails(&["get", "peerauthentications"]);
    assert!(
        refused.contains("NotFound") || refused.contains("resource type"),
        "{refused}"
    );
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_on_the_server() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    assert_eq!(kubectl.with_input(&apply, POD), "pod/web serverside-applied\n");
    let other = POD.replace("web:1", "web:2");
    let arguments = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let refused = kubectl.fails_with_input(&arguments, &other);
    assert!(
        refused.contains("conflict with \"kubectl\"")
            && refused.contains(".spec.containers[name=\"main\"].image"),
        "{refused}"
    );
    let arguments = [
        "apply",
        "--server-side",
        "--field-manager=other",
        "--force-conflicts",
        "-f",
        "-",
    ];
    assert_eq!(
        kubectl.with_input(&arguments, &other),
        "pod/web serverside-applied\n"
    );
    // Moving from client-side apply.
    assert!(
        kubectl
            .with_input(&["apply", "-f", "-"], POLICY)
            .contains("created")
    );
    assert!(
        kubectl
            .with_input(&apply, &POLICY.replace("STRICT", "PERMISSIVE"))
            .contains("serverside-applied")
    );
    let managers = kubectl.run(&[
        "get",
        "pa",
        "strict",
        "--show-managed-fields",
        "-o",
        "jsonpath={.metadata.managedFields[*].operation}",
    ]);
    assert!(managers.contains("Apply"), "{managers}");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    server
        .put(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "first" } }))
        .unwrap();
    let mut child = kubectl
        .command(&["get", "configmaps", "-w", "--output-watch-events", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let first = line();
    assert!(first.contains("configmap/first"), "{first}");
    server
        .put(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "second" } }))
        .unwrap();
    let second = line();
    assert!(second.contains("configmap/second"), "{second}");
    server.remove(&kube_api::Key::new("configmaps", "default", "first"));
    assert!(line().contains("configmap/first"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn works_over_tls() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = certificate.self_signed(&key).unwrap().pem();
    let key = tls::PrivateKey::from_pem(&key.serialize_pem()).unwrap();
    let identity = tls::server_auth::ServerIdentity::from_pem(&pem, &key).unwrap();
    let options = Options {
        tls: Some(tls::server_auth::Acceptor::new(identity.with_http1())),
        authority_pem: pem,
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let Some(kubectl) = kubectl(&server) else { return };
    assert_eq!(
        kubectl.run(&["get", "ns", "default", "-o", "name"]),
        "namespace/default\n"
    );
    // The same over HTTP/1.1, as other clients speak.
    let mut command = kubectl.command(&["get", "ns", "default", "-o", "name"]);
    let output = command.env("DISABLE_HTTP2", "1").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "namespace/default\n");
}
