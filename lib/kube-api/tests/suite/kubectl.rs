//! The real kubectl against the server: it discovers, reads, writes and watches as against any other.

use std::io::{BufRead, BufReader, Write};
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

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_is_wrong_with_a_field() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    // kubectl asks for strictness unless it is told otherwise.
    let misspelt = POD.replace("nodeName", "nodeNam");
    let refused = kubectl.fails_with_input(&["create", "-f", "-"], &misspelt);
    assert!(
        refused.contains("cannot be handled as a Pod: strict decoding error: unknown field \"spec.nodeNam\""),
        "{refused}"
    );
    let warn = ["create", "--validate=warn", "-f", "-"];
    let said = kubectl.says_with_input(&warn, &misspelt);
    assert!(
        said.contains("Warning: unknown field \"spec.nodeNam\"") && said.contains("pod/web created"),
        "{said}"
    );
    let path = "jsonpath={.spec.nodeNam}{.spec.containers[0].name}";
    assert_eq!(kubectl.run(&["get", "pod", "web", "-o", path]), "main");
    // The same for a kind by definition, and when it is changed.
    let policy = POLICY.replace("spec: {mtls:", "spec: {mlts: {}, mtls:");
    server_with_schemas(&kubectl, &policy);
    // A wrong type, and what is missing.
    let wrong = POD
        .replace("name: web", "name: two")
        .replace("image: web:1", "ports: [{containerPort: http}]");
    let refused = kubectl.fails_with_input(&["create", "-f", "-"], &wrong);
    assert!(
        refused.contains("BadRequest") && refused.contains("spec.containers[0].ports[0].containerPort"),
        "{refused}"
    );
    let nameless = POD
        .replace("name: web", "name: two")
        .replace("image: web:1", "image: ''");
    let refused = kubectl.fails_with_input(&["create", "-f", "-"], &nameless);
    assert!(
        refused.contains("The Pod \"two\" is invalid: spec.containers[0].image: Required value"),
        "{refused}"
    );
    let patch = r#"{"spec":{"containers":[{"name":"main","ports":[{"containerPort":70000}]}]}}"#;
    let refused = kubectl.fails(&["patch", "pod", "web", "-p", patch]);
    assert!(refused.contains("between 1 and 65535"), "{refused}");
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}, {port: 81}]}\n";
    let refused = kubectl.fails_with_input(&["apply", "-f", "-"], service);
    assert!(
        refused.contains("spec.ports[0].name: Required value")
            && refused.contains("spec.ports[1].name: Required value"),
        "{refused}"
    );
    drop(server);
}

/// Unknown fields of a kind by definition; its schema must know which there are.
fn server_with_schemas(kubectl: &Kubectl, misspelt: &str) {
    for definition in charts::definitions().unwrap() {
        if definition["spec"]["names"]["kind"] == "PeerAuthentication" {
            let text = definition.to_string();
            kubectl.with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &text);
        }
    }
    let refused = kubectl.fails_with_input(&["create", "-f", "-"], misspelt);
    assert!(refused.contains("unknown field \"spec.mlts\""), "{refused}");
    let said = kubectl.says_with_input(&["create", "--validate=warn", "-f", "-"], misspelt);
    assert!(
        said.contains("Warning: unknown field \"spec.mlts\"") && said.contains("strict created"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_both_groups_are_the_same() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    kubectl.with_input(&["create", "-f", "-"], POD);
    let uid = kubectl.run(&["get", "pod", "web", "-o", "jsonpath={.metadata.uid}"]);
    let regarding =
        json!({ "apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": "default", "uid": uid });
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "web.1" },
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "ztunnel.dev/control-plane",
        "reportingInstance": "cp-0", "action": "Sign", "reason": "CertificateRefused", "type": "Warning",
        "note": "no, because of that", "regarding": regarding,
    });
    kubectl.with_input(&["create", "-f", "-"], &event.to_string());
    for table in [
        kubectl.run(&["get", "events"]),
        kubectl.run(&["get", "events.events.k8s.io"]),
    ] {
        let row = table.lines().nth(1).unwrap();
        for word in ["Warning", "CertificateRefused", "pod/web", "no, because of that"] {
            assert!(row.contains(word), "{word} in {table}");
        }
    }
    assert!(kubectl.run(&["events"]).contains("no, because of that"));
    let described = kubectl.run(&["describe", "pod", "web"]);
    assert!(
        described.contains("CertificateRefused") && described.contains("ztunnel.dev/control-plane"),
        "{described}"
    );
    // Each group has its own names, for selectors and patches too.
    let field = |resource: &str, field: &str| {
        let path = format!("jsonpath={{{field}}}");
        kubectl.run(&["get", resource, "web.1", "-o", &path])
    };
    assert_eq!(field("events", ".involvedObject.name"), "web");
    assert_eq!(field("events", ".regarding.name"), "");
    assert_eq!(field("events.events.k8s.io", ".regarding.name"), "web");
    assert_eq!(field("events.events.k8s.io", ".message"), "");
    for (resource, selector) in [
        ("events", "involvedObject.name=web"),
        ("events.events.k8s.io", "regarding.name=web"),
    ] {
        let found = kubectl.run(&["get", resource, "--field-selector", selector, "-o", "name"]);
        assert!(found.ends_with("/web.1\n"), "{found}");
    }
    let series = r#"{"note":"again","series":{"count":7,"lastObservedTime":"2026-01-01T00:01:00.000000Z"}}"#;
    kubectl.run(&[
        "patch",
        "events.events.k8s.io",
        "web.1",
        "--type=merge",
        "-p",
        series,
    ]);
    let wide = kubectl.run(&["get", "events", "-o", "wide"]);
    let row: Vec<&str> = wide.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row.contains(&"again") && row.contains(&"7"), "{wide}");
    kubectl.run(&["delete", "event", "web.1"]);
    assert_eq!(kubectl.run(&["get", "events.events.k8s.io", "-o", "name"]), "");
    drop(server);
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, generation: 9}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: main, image: shop:1}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_scaled() {
    let Some((server, kubectl)) = start().await else {
        return;
    };
    kubectl.with_input(&["create", "-f", "-"], DEPLOYMENT);
    assert_eq!(
        kubectl.run(&["scale", "deployment", "shop", "--replicas=3"]),
        "deployment.apps/shop scaled\n"
    );
    let read = |path: &str| kubectl.run(&["get", "deployment", "shop", "-o", &format!("jsonpath={path}")]);
    assert_eq!(read("{.spec.replicas} {.metadata.generation}"), "3 2");
    assert!(
        kubectl
            .fails(&[
                "scale",
                "deployment",
                "shop",
                "--current-replicas=2",
                "--replicas=1"
            ])
            .contains("Expected replicas to be 2, was 3")
    );
    kubectl.run(&["scale", "deploy/shop", "--current-replicas=3", "--replicas=0"]);
    assert_eq!(read("{.spec.replicas}"), "0");
    let scale = kubectl.run(&["get", "deployment", "shop", "--subresource=scale", "-o", "json"]);
    let scale: Value = serde_json::from_str(&scale).unwrap();
    assert_eq!(
        (&scale["kind"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!("app=shop"))
    );
    assert!(
        kubectl
            .fails(&["scale", "deployment", "gone", "--replicas=1"])
            .contains("\"gone\" not found")
    );
    let below = r#"{"spec":{"replicas":-1}}"#;
    let arguments = [
        "patch",
        "deployment",
        "shop",
        "--subresource=scale",
        "--type=merge",
        "-p",
        below,
    ];
    assert!(kubectl.fails(&arguments).contains("greater than or equal to 0"));
    drop(server);
}

struct Files(std::path::PathBuf);

impl kube_api::Logs for Files {
    fn file(&self, container: kube_api::Container<'_>) -> std::path::PathBuf {
        let kube_api::Container { namespace, pod, name } = container;
        self.0.join(format!("{namespace}_{pod}_{name}.log"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        logs: Some(std::sync::Arc::new(Files(directory.path().to_owned()))),
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    let Some(kubectl) = kubectl(&server) else { return };
    kubectl.with_input(&["create", "-f", "-"], POD);
    let waiting = kubectl.fails(&["logs", "web"]);
    assert!(waiting.contains("waiting to start"), "{waiting}");
    let log = directory.path().join("default_web_main.log");
    let numbers: String = (1..=20_000).map(|number| format!("line {number}\n")).collect();
    std::fs::write(&log, format!("{numbers}the end, without a newline")).unwrap();
    let all = kubectl.run(&["logs", "web"]);
    assert!(
        all.starts_with("line 1\n") && all.ends_with("without a newline"),
        "{}",
        all.len()
    );
    assert_eq!(
        kubectl.run(&["logs", "pod/web", "-c", "main", "--tail=2"]),
        "line 20000\nthe end, without a newline"
    );
    assert_eq!(kubectl.run(&["logs", "web", "--tail=0"]), "");
    assert_eq!(kubectl.run(&["logs", "web", "--limit-bytes=6"]), "line 1");
    for (arguments, expected) in [
        (
            &["logs", "web", "-c", "other"][..],
            "container other is not valid",
        ),
        (&["logs", "gone"], "NotFound"),
        (&["logs", "web", "--since=1m"], "without times"),
        (&["logs", "web", "--previous"], "in one piece"),
    ] {
        let refused = kubectl.fails(arguments);
        assert!(refused.contains(expected), "{arguments:?}: {refused}");
    }
    // Followed until the pod is gone.
    let mut child = kubectl
        .command(&["logs", "-f", "--tail=1", "web"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    writeln!(file, " at first").unwrap();
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "the end, without a newline at first"
    );
    writeln!(file, "more").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "more");
    kubectl.run(&["delete", "pod", "web"]);
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}
