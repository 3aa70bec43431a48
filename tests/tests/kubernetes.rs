//! The mesh over a Kubernetes API: whole programs that read and write it, steered as a user would by kubectl, and what
//! happens when the API is away, forgets its history, or its readers are restarted.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::manifests::{join, namespace, peer_authentication, server, sleeper};
use tests::{Api, Lab, Place, Pod, eventually, eventually_some, require_root, ztctl};

const UP: [&str; 2] = ["--control-plane", "kubernetes"];
const PORT: u16 = 8080;
/// For what nobody waits for by himself: a change through the API comes into force by and by.
const SOON: Duration = Duration::from_secs(30);
const PODS: &str = "/api/v1/namespaces/shop/pods";
const PEER_AUTHENTICATIONS: &str = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";
const AUTHORIZATION_POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";

/// A shop with a server on node-b, a client and a guest on node-a, and a visitor from outside of the mesh.
fn shop(in_mesh: bool) -> String {
    join([
        namespace("shop", in_mesh),
        namespace("outside", false),
        server("shop", "server", "server", "node-b"),
        server("shop", "client", "client", "node-a"),
        server("shop", "guest", "guest", "node-a"),
        sleeper("outside", "visitor", "default", "node-a"),
    ])
}

fn is_served(from: &Pod, to: &Pod) -> bool {
    matches!(from.http_get(to.at(PORT), "/"), Ok(response) if response.status == 200)
}

/// DENY to one service account.
fn denial(name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "action": "DENY",
            "rules": [{ "from": [{ "source": { "principals": [format!("cluster.local/ns/shop/sa/{account}")] } }] }],
        },
    })
}

/// Who owns this field, by the API's own account.
fn managers_of(object: &Value, path: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let owns = |entry: &&Value| entry["fieldsV1"].pointer(path).is_some();
    let name = |entry: &Value| entry["manager"].as_str().unwrap_or_default().to_owned();
    entries.iter().filter(owns).map(name).collect()
}

fn is_enrolled(api: &Api, pod: &str) -> bool {
    api.get(&format!("{PODS}/{pod}"))
        .is_some_and(|pod| pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled")
}

#[test]
fn a_mesh_is_steered_through_the_kubernetes_api() {
    if !require_root() {
        return;
    }
    let lab = Lab::up_with(&UP, &shop(false));
    let api = Api::of(&lab);
    let [server, client, visitor] =
        ["shop/server", "shop/client", "outside/visitor"].map(|name| lab.pod(name));
    assert!(is_served(&client, &server) && is_served(&visitor, &server));
    let encrypted = || {
        lab.metric(
            "node-b",
            "istio_tcp_connections_opened_total",
            &[("connection_security_policy", "mutual_tls")],
        )
    };
    assert_eq!(encrypted(), 0.0, "nobody is in the mesh yet");

    // Enrolled by a label; the node agents say so through pods/status.
    let label = json!({ "metadata": { "labels": { "istio.io/dataplane-mode": "ambient" } } });
    api.patch("/api/v1/namespaces/shop", &label);
    for pod in ["server", "client", "guest"] {
        eventually("the pods are enrolled", SOON, || is_enrolled(&api, pod));
    }
    let annotated = api.get(&format!("{PODS}/server")).unwrap();
    let owners = managers_of(
        &annotated,
        "/f:metadata/f:annotations/f:ambient.istio.io~1redirection",
    );
    assert!(!owners.is_empty(), "{annotated:#}");
    let by_status = |entry: &Value| {
        entry["subresource"] == "status" && owners.iter().any(|owner| entry["manager"] == **owner)
    };
    let entries = annotated["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        entries.iter().any(by_status),
        "not through pods/status: {entries:?}"
    );
    eventually("the client is encrypted", SOON, || {
        is_served(&client, &server) && encrypted() > 0.0
    });

    // The authority's root is a Secret, and what it signs is trusted by a ConfigMap in every namespace.
    let secret = api
        .get("/api/v1/namespaces/istio-system/secrets/istio-ca-secret")
        .unwrap();
    assert!(
        secret["data"]["ca-key.pem"].is_string(),
        "{:?}",
        secret["data"]
            .as_object()
            .map(|data| data.keys().collect::<Vec<_>>())
    );
    let roots = |namespace: &str| {
        let map = api.get(&format!(
            "/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert"
        ))?;
        map["data"]["root-cert.pem"].as_str().map(str::to_owned)
    };
    eventually("the same roots everywhere", SOON, || {
        roots("istio-system").is_some() && roots("istio-system") == roots("shop")
    });

    // STRICT, and what the control plane says of it on the object itself.
    assert!(is_served(&visitor, &server), "PERMISSIVE before that");
    let strict = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": { "name": "strict", "namespace": "shop" },
        "spec": { "mtls": { "mode": "STRICT" } },
    });
    let made = api.create(PEER_AUTHENTICATIONS, &strict);
    eventually("plaintext is refused", SOON, || !is_served(&visitor, &server));
    assert!(is_served(&client, &server), "mTLS goes on");
    let path = format!("{PEER_AUTHENTICATIONS}/strict");
    let condition = eventually_some("the condition", SOON, || {
        let stored = api.get(&path)?;
        let conditions = stored["status"]["conditions"].as_array()?.clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == "ZtunnelAccepted")
    });
    assert_eq!(condition["status"], "True");
    let stored = api.get(&path).unwrap();
    assert_eq!(stored["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(
        managers_of(&stored, "/f:status/f:conditions"),
        ["ztunnel-control-plane"],
        "{stored:#}"
    );

    // A denial by identity, and its end.
    api.create(AUTHORIZATION_POLICIES, &denial("no-client", "client"));
    eventually("the client is denied", SOON, || !is_served(&client, &server));
    assert!(is_served(&lab.pod("shop/guest"), &server), "the guest is not");
    api.delete(&format!("{AUTHORIZATION_POLICIES}/no-client"));
    eventually("the client is served again", SOON, || is_served(&client, &server));

    // What the lab's own commands write is shown as well, keeps its account of fields, and is in force when they return.
    lab.apply(&peer_authentication("shop", "strict", "PERMISSIVE"));
    assert!(
        is_served(&visitor, &server),
        "`lab apply` returned before it was in force"
    );
    let after = api.get(&path).unwrap();
    assert_eq!(after["spec"]["mtls"]["mode"], "PERMISSIVE");
    assert_eq!(after["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!(
        managers_of(&after, "/f:status/f:conditions"),
        ["ztunnel-control-plane"]
    );
    lab.apply(&peer_authentication("shop", "strict", "STRICT"));
    assert!(
        !is_served(&visitor, &server),
        "`lab apply` returned before it was in force"
    );

    // The lab's controllers see what comes through the API: a pod is run, enrolled, and ended.
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "late", "namespace": "shop" },
        "spec": { "nodeName": "node-a", "containers": [{ "name": "main", "image": "test" }] },
    });
    api.create(PODS, &pod);
    eventually("the new pod is enrolled", SOON, || is_enrolled(&api, "late"));
    eventually("and served", SOON, || is_served(&lab.pod("shop/late"), &server));
    api.delete(&format!("{PODS}/late?gracePeriodSeconds=1"));
    eventually("the pod is gone", SOON, || {
        api.get(&format!("{PODS}/late")).is_none()
    });
}

#[test]
fn what_the_lab_cannot_have_is_refused_with_its_reason() {
    if !require_root() {
        return;
    }
    let lab = Lab::up_with(&UP, &shop(false));
    let api = Api::of(&lab);
    let refused = |method: &str, path: &str, body: Value, code: u16, reason: &str| {
        let (status, answer) = api.send(method, path, "application/json", &body.to_string());
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            status == code && message.contains(reason),
            "{method} {path}: {status} {answer:#}"
        );
    };
    let mut bad = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": { "name": "bad" },
        "spec": { "mtls": { "mode": "SRTICT" } },
    });
    refused("POST", PEER_AUTHENTICATIONS, bad.clone(), 422, "spec.mtls.mode");
    bad["spec"] = json!({ "mlts": { "mode": "STRICT" } });
    let strictly = format!("{PEER_AUTHENTICATIONS}?fieldValidation=Strict");
    refused("POST", &strictly, bad, 400, "unknown field \"spec.mlts\"");
    // A rule of the definition.
    let rootless = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": { "name": "bad" },
        "spec": { "portLevelMtls": { "80": { "mode": "STRICT" } } },
    });
    refused(
        "POST",
        PEER_AUTHENTICATIONS,
        rootless,
        422,
        "portLevelMtls needs a selector",
    );
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "nowhere" },
        "spec": { "nodeName": "node-z", "containers": [{ "name": "main", "image": "test" }] },
    });
    refused("POST", PODS, pod, 403, "there is no node `node-z`");
    refused(
        "DELETE",
        "/api/v1/nodes/node-a",
        json!({}),
        403,
        "belongs to the lab itself",
    );
    refused(
        "DELETE",
        "/api/v1/namespaces/istio-system/pods/ztunnel-node-a",
        json!({}),
        403,
        "belongs to the lab itself",
    );
    assert_eq!(api.get(PODS).unwrap()["items"].as_array().unwrap().len(), 3);

    // Nobody without a token of this lab, though it listens on loopback for every user of the machine.
    for token in ["", "nonsense"] {
        let (status, _) = Api::of(&lab)
            .with_token(token)
            .send("GET", PODS, "application/json", "");
        assert_eq!(status, 401, "{token}");
    }
    let kubeconfig = lab.ztctl(&["kubeconfig"]).expect_code(0).stdout;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kubeconfig.trim()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // A namespace goes with everything in it.
    api.delete("/api/v1/namespaces/shop");
    eventually("the namespace is gone", SOON, || {
        api.get("/api/v1/namespaces/shop").is_none()
    });
    assert!(
        api.get("/api/v1/pods").unwrap()["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|pod| pod["metadata"]["namespace"] != "shop")
    );
}

/// An open connection over which bytes pass.
struct Held(TcpStream);

impl Held {
    fn open(from: &Pod, to: &Pod) -> Held {
        let mut held = Held(from.connect(to.at(PORT)).unwrap());
        held.works();
        held
    }

    #[track_caller]
    fn works(&mut self) {
        // The test application echoes what is not HTTP.
        let said = [0u8, 1, 2, 3, b'\n'];
        self.0.write_all(&said).unwrap();
        let mut heard = [0; 5];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, said);
    }
}

#[test]
fn the_api_goes_away_and_comes_back_and_nothing_is_lost() {
    if !require_root() {
        return;
    }
    let lab = Lab::up_with(&UP, &shop(true));
    let api = Api::of(&lab);
    let [server, client, guest] = ["shop/server", "shop/client", "shop/guest"].map(|name| lab.pod(name));
    let fault = |argument: &str| lab.ztctl(&["fault", "kube-api", argument]).expect_code(0);
    let policy = format!("{AUTHORIZATION_POLICIES}/no-guest");
    let denied = || !is_served(&guest, &server);
    let mut held = Held::open(&client, &server);

    // Away: whoever is in the mesh stays there, and new connections are made. What changes meanwhile waits.
    fault("--partition");
    held.works();
    assert!(is_served(&client, &server) && is_served(&guest, &server));
    api.create(AUTHORIZATION_POLICIES, &denial("no-guest", "guest"));
    let late = lab.ztctl_with_input(
        &["apply", "--timeout", "2s", "-f", "-"],
        &peer_authentication("shop", "strict", "STRICT"),
    );
    assert_eq!(late.code, 3, "{}", late.stderr);
    assert!(
        late.stderr.contains("of the Kubernetes API up to"),
        "{}",
        late.stderr
    );
    // An agent that dies leaves its pods where they are.
    lab.restart("node-agent/node-a", true);
    held.works();
    assert!(is_served(&client, &server), "without the agent's API");
    assert!(!denied(), "the API is away, and the proxies know of the change?");
    fault("--clear");
    eventually("the change arrives once the API is back", SOON, denied);
    held.works();
    api.delete(&policy);
    eventually("and so does its end", SOON, || !denied());

    // Restarted: connections break, the history is there.
    lab.restart("kube-api", false);
    api.create(AUTHORIZATION_POLICIES, &denial("no-guest", "guest"));
    eventually("after a restart", SOON, denied);

    // Without its history: who continues is told 410, and lists anew. Something goes meanwhile, which no watch tells.
    fault("--partition");
    api.delete(&policy);
    lab.restart("kube-api", true);
    fault("--clear");
    eventually("what went unseen has gone", SOON, || !denied());
    held.works();

    // Its readers are restarted.
    lab.restart("control-plane", true);
    api.create(AUTHORIZATION_POLICIES, &denial("no-guest", "guest"));
    eventually("by a new control plane", SOON, denied);
    lab.restart("node-agent/node-a", true);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "late", "namespace": "shop" },
        "spec": { "nodeName": "node-a", "containers": [{ "name": "main", "image": "test" }] },
    });
    api.create(PODS, &pod);
    eventually("a pod is enrolled by a new agent", SOON, || {
        is_enrolled(&api, "late")
    });
    held.works();
}

/// The real kubectl, where it is installed.
struct Kubectl;

impl Kubectl {
    fn found() -> Option<Kubectl> {
        let found = Command::new("kubectl").arg("version").arg("--client").output();
        if found.is_ok_and(|output| output.status.success()) {
            return Some(Kubectl);
        }
        eprintln!("SKIPPED: kubectl is not installed");
        None
    }

    /// It as the user of a lab runs it: with these arguments and this text on standard input.
    fn of(self, lab: &Lab) -> impl Fn(&[&str], &str) -> tests::Output {
        let home = lab.file("cache", "");
        let kubeconfig = lab.ztctl(&["kubeconfig"]).expect_code(0).stdout;
        move |arguments, input| {
            let mut command = Command::new("kubectl");
            command
                .args(arguments)
                .args(["--cache-dir", &format!("{home}.d")])
                .env("KUBECONFIG", kubeconfig.trim())
                .env_remove("HTTPS_PROXY")
                .env_remove("https_proxy");
            tests::run(command, Some(input), SOON)
        }
    }
}

#[test]
fn the_root_is_exchanged_and_certificates_revoked_by_whoever_may_annotate() {
    if !require_root() {
        return;
    }
    let found = Command::new("kubectl").arg("version").arg("--client").output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: kubectl is not installed");
        return;
    }
    let lab = Lab::up_with(&UP, &shop(true));
    let [server, client] = ["shop/server", "shop/client"].map(|name| lab.pod(name));
    eventually("the client is served", SOON, || is_served(&client, &server));
    let kubeconfig = lab.ztctl(&["kubeconfig"]).expect_code(0).stdout;
    let ca = |arguments: &[&str]| {
        let mut all = vec!["ca", arguments[0], "--kubeconfig", kubeconfig.trim()];
        all.extend(&arguments[1..]);
        ztctl(&all, 4 * SOON)
    };
    let status = || {
        let output = ca(&["status", "-o", "json"]);
        (output.code == 0).then(|| serde_json::from_str::<Value>(&output.stdout).unwrap())
    };
    let before = eventually_some("the leader tells how the roots stand", SOON, status);
    assert_eq!(before["phase"], "steady", "{before}");
    let none = ca(&["rotate", "--abort"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("no rotation is under way"), "{none:?}");

    // Certificates live for a day here: the new root signs because every node has acknowledged it.
    ca(&["rotate"]).expect_code(0);
    let switched = eventually_some("the new root signs", 2 * SOON, || {
        status().filter(|status| status["phase"] == "switched")
    });
    assert_eq!(switched["roots"].as_array().unwrap().len(), 2, "{switched}");
    assert!(is_served(&client, &server));
    let again = ca(&["rotate"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("under way"), "{again:?}");
    let reports = Api::of(&lab)
        .get("/api/v1/namespaces/istio-system/configmaps/ztunnel-ca-seen")
        .unwrap();
    let told = reports["data"].as_object().unwrap();
    assert!(told.keys().any(|key| key.starts_with("replica.")), "{reports:#}");

    ca(&["revoke", &"47".repeat(16)]).expect_code(0);
    eventually("it is on the list in every namespace", SOON, || {
        Api::of(&lab)
            .get("/api/v1/namespaces/shop/configmaps/istio-ca-crl")
            .is_some_and(|map| {
                map["data"]["ca-crl.pem"]
                    .as_str()
                    .is_some_and(|list| list.contains("X509 CRL"))
            })
    });
    assert!(
        is_served(&client, &server),
        "nobody has a certificate with that number"
    );
    let nowhere = ca(&["status", "--namespace", "nowhere"]);
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
}

#[test]
fn kubectl_works_on_the_lab() {
    if !require_root() {
        return;
    }
    let Some(kubectl) = Kubectl::found() else { return };
    let lab = Lab::up_with(&UP, &shop(false));
    let kubectl = kubectl.of(&lab);
    kubectl(&["label", "ns", "shop", "istio.io/dataplane-mode=ambient"], "").expect_code(0);
    let api = Api::of(&lab);
    eventually("enrolled by kubectl label", SOON, || is_enrolled(&api, "server"));
    // The node proxies' output is what `ztctl lab logs` shows, though no container runs for their pods.
    let shown = lab.ztctl(&["logs", "ztunnel/node-a"]).expect_code(0).stdout;
    let first = shown.lines().next().expect("the node proxy says something");
    let proxies = ["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=-1"];
    let logs = kubectl(&proxies, "").expect_code(0).stdout;
    assert!(logs.contains(first), "{first} is not in {logs}");
    let applied = kubectl(
        &["apply", "-f", "-"],
        &peer_authentication("shop", "strict", "STRICT"),
    )
    .expect_code(0);
    assert!(applied.stdout.contains("strict created"), "{}", applied.stdout);
    let [server, visitor] = ["shop/server", "outside/visitor"].map(|name| lab.pod(name));
    eventually("STRICT by kubectl apply", SOON, || !is_served(&visitor, &server));
    // Asked about as any cluster is, the lab answers what has just been seen.
    let kubeconfig = lab.ztctl(&["kubeconfig"]).expect_code(0).stdout;
    let mut question = Command::new(tests::binary("ztctl"));
    question
        .args([
            "policy",
            "can",
            "outside/visitor",
            "shop/server:8080",
            "--kubernetes",
        ])
        .env("KUBECONFIG", kubeconfig.trim());
    let answer = tests::run(question, None, SOON).expect_code(1).stdout;
    assert!(
        answer.contains("PeerAuthentication requires mTLS (shop/strict"),
        "{answer}"
    );
    eventually("kubectl get shows mode and verdict", SOON, || {
        let table = kubectl(&["get", "peerauthentications", "-A"], "")
            .expect_code(0)
            .stdout;
        table.lines().any(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            cells.starts_with(&["shop", "strict", "STRICT", "True", "Accepted"])
        })
    });
    let again = kubectl(
        &["apply", "-f", "-"],
        &peer_authentication("shop", "strict", "STRICT"),
    )
    .expect_code(0);
    assert!(again.stdout.contains("unchanged"), "{}", again.stdout);
    let bad = kubectl(
        &["apply", "-f", "-"],
        &peer_authentication("shop", "wrong", "SOMETIMES"),
    );
    assert!(
        bad.code != 0 && bad.stderr.contains("spec.mtls.mode"),
        "{}",
        bad.stderr
    );
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  replicas: 2\n  \
                      selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      \
                      containers: [{name: main, image: web}]\n";
    kubectl(&["apply", "-f", "-"], deployment).expect_code(0);
    let rolled = kubectl(
        &[
            "rollout",
            "status",
            "deployment/web",
            "-n",
            "shop",
            "--timeout=25s",
        ],
        "",
    );
    assert_eq!(rolled.code, 0, "{}{}", rolled.stdout, rolled.stderr);
    kubectl(&["delete", "deployment/web", "-n", "shop"], "").expect_code(0);
    eventually("the pods go with their Deployment", SOON, || {
        kubectl(&["get", "pods", "-n", "shop", "-l", "app=web", "-o", "name"], "")
            .expect_code(0)
            .stdout
            .is_empty()
    });
}

#[test]
fn kubectl_tells_what_happens_on_the_lab() {
    if !require_root() {
        return;
    }
    let Some(kubectl) = Kubectl::found() else { return };
    let lab = Lab::up_with(&UP, &shop(true));
    let kubectl = kubectl.of(&lab);
    let said = |arguments: &[&str]| kubectl(arguments, "").expect_code(0).stdout;

    // What the control plane refuses is an Event that everybody looks for.
    let partly = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: partly, namespace: shop}\nspec:\n  \
                  action: DENY\n  rules: [{to: [{operation: {paths: [/secret]}}]}]\n";
    kubectl(&["apply", "-f", "-"], partly).expect_code(0);
    eventually("an Event", SOON, || {
        let table = said(&["get", "events", "-n", "shop"]);
        table.contains("authorizationpolicy/partly") && table.contains("Warning")
    });
    let described = said(&["describe", "authorizationpolicies", "partly", "-n", "shop"]);
    assert!(described.contains("ztunnel.dev/control-plane"), "{described}");
    kubectl(&["delete", "authorizationpolicies", "partly", "-n", "shop"], "").expect_code(0);

    // Misspelt and mistyped.
    let pod = |field: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: bad, namespace: shop}}\nspec:\n  nodeName: node-a\n  {field}\n  \
             containers: [{{name: main, image: test}}]\n"
        )
    };
    for (field, expected) in [
        (
            "serviceAcountName: server",
            "unknown field \"spec.serviceAcountName\"",
        ),
        (
            "serviceAccountName: [server]",
            "spec.serviceAccountName: invalid type",
        ),
    ] {
        let refused = kubectl(&["apply", "-f", "-"], &pod(field));
        assert!(
            refused.code != 0 && refused.stderr.contains(expected),
            "{}",
            refused.stderr
        );
    }

    // A Deployment is scaled, and its pods are heard.
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  \
                      selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      \
                      containers: [{name: main, image: web, command: [sh, -c, 'echo heard; exec sleep 1000']}]\n";
    kubectl(&["apply", "-f", "-"], deployment).expect_code(0);
    let running = || {
        let rows = said(&["get", "pods", "-n", "shop", "-l", "app=web", "--no-headers"]);
        rows.lines().filter(|row| row.contains("Running")).count()
    };
    eventually("one pod", SOON, || running() == 1);
    said(&["scale", "deployment/web", "-n", "shop", "--replicas=3"]);
    eventually("three pods", SOON, || running() == 3);
    said(&["scale", "deployment/web", "-n", "shop", "--replicas=1"]);
    eventually("one pod again", SOON, || running() == 1);
    eventually("its output", SOON, || {
        let logs = kubectl(&["logs", "deployment/web", "-n", "shop", "--tail=5"], "");
        logs.code == 0 && logs.stdout == "heard\n"
    });
    let silent = kubectl(&["logs", "server", "-n", "shop", "--since=1m"], "");
    assert!(
        silent.code != 0 && silent.stderr.contains("without times"),
        "{}",
        silent.stderr
    );

    // The mesh's settings, and settings that nobody can read: those before stay, and the log says why.
    let settings = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
        )
    };
    let log = || lab.ztctl(&["logs", "control-plane"]).expect_code(0).stdout;
    let wrong = settings("discoverySelectors: [{matchLabels: 7}]");
    kubectl(&["apply", "-f", "-"], &wrong).expect_code(0);
    eventually("what is wrong with it", SOON, || {
        log().contains("the mesh's settings cannot be read")
    });
    eventually("its author is told", SOON, || {
        let table = said(&["get", "events", "-n", "istio-system"]);
        table.contains("configmap/istio") && table.contains("SettingsUnreadable")
    });
    let [server, client] = ["shop/server", "shop/client"].map(|name| lab.pod(name));
    assert!(is_served(&client, &server));
    let other = settings("trustDomain: other.example");
    kubectl(&["apply", "-f", "-"], &other).expect_code(0);
    eventually("that it takes a restart", SOON, || {
        log().contains("restart the control plane to change them")
    });
    // Namespaces that do not take part are unknown to the mesh: what is called there is plain TCP to an address.
    let refuse = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": "shop" }, "spec": { "mtls": { "mode": "STRICT" } },
    });
    let api = Api::of(&lab);
    api.create(PEER_AUTHENTICATIONS, &refuse);
    let visitor = lab.pod("outside/visitor");
    eventually("STRICT", SOON, || !is_served(&visitor, &server));
    assert!(is_served(&client, &server));
    let none = settings("discoverySelectors: [{matchLabels: {no: namespace}}]");
    kubectl(&["apply", "-f", "-"], &none).expect_code(0);
    eventually("the selectors are in force", SOON, || {
        log().contains("namespaces take part by other selectors")
    });
    kubectl(&["delete", "configmap", "istio", "-n", "istio-system"], "").expect_code(0);
    eventually("the mesh is as before", SOON, || {
        is_served(&client, &server) && !is_served(&visitor, &server)
    });
}
