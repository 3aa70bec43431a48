//! What stands before Services, and what Kubernetes has no Service for: ServiceEntries with addresses of the mesh's
//! choice, WorkloadEntries, who sees them, and waypoints; over files and over a Kubernetes API.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tests::manifests::{join, namespace, server, service, sleeper};
use tests::{Api, Lab, Pod, eventually, eventually_some, query, require_root, ztctl};

/// What the lab writes into every pod's resolv.conf.
const CLUSTER: &str = "169.254.20.10:53";
const HOST: &str = "db.example";
/// For what nobody waits for by himself: addresses are written by and by.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_entry_with_a_machine_is_reached_by_name_from_its_namespace() {
    if require_root() {
        reached(&[]);
    }
}

#[test]
fn an_entry_with_a_machine_is_reached_by_name_over_a_kubernetes_api() {
    if require_root() {
        reached(&["--control-plane", "kubernetes"]);
    }
}

fn reached(up: &[&str]) {
    let lab = Lab::up_with(
        up,
        &join([
            namespace("shop", true),
            namespace("other", true),
            namespace("outside", false),
            sleeper("shop", "client", "client", "node-a"),
            sleeper("other", "stranger", "stranger", "node-a"),
            server("outside", "machine", "default", "node-b"),
        ]),
    );
    let [client, stranger, machine] =
        ["shop/client", "other/stranger", "outside/machine"].map(|name| lab.pod(name));
    lab.apply(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         hosts: [{HOST}]\n  exportTo: [\".\"]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  ports: [{{number: 80, \
         name: http, protocol: HTTP, targetPort: 1}}]\n  workloadSelector: {{labels: {{app: db}}}}\n---\napiVersion: \
         networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: shop}}\nspec: {{address: {}, \
         labels: {{app: db}}, ports: {{http: 8080}}}}\n",
        machine.ip
    ));

    // An address is chosen, written, and answered for the name.
    let address = eventually_some("the host has an address", SOON, || {
        let entry = lab.get(&["serviceentry", "db", "-n", "shop"]);
        let chosen = entry["status"]["addresses"][0]["value"]
            .as_str()?
            .parse::<IpAddr>();
        assert_eq!(entry["status"]["addresses"][0]["host"], HOST);
        let answered = ask(&client)?;
        assert_eq!(answered, chosen.unwrap());
        Some(answered)
    });
    let IpAddr::V4(v4) = address else {
        panic!("{address}")
    };
    assert_eq!(v4.octets()[..2], [240, 240]);
    let to = SocketAddr::new(address, 80);
    eventually("the machine answers", SOON, || {
        is_answered_by(&client, to, "machine")
    });

    // Nobody else sees it: the name is not answered, and the address leads nowhere.
    assert_eq!(ask(&stranger), None);
    assert!(stranger.http_get(to, "/").is_err());

    // Exported to all, others see it; and the address stays what it was.
    let entry = lab.get(&["serviceentry", "db", "-n", "shop"]);
    let mut shared = entry.clone();
    shared["spec"]["exportTo"] = json!(["*"]);
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
        "managedFields",
    ] {
        shared["metadata"].as_object_mut().unwrap().remove(field);
    }
    shared.as_object_mut().unwrap().remove("status");
    lab.apply(&shared.to_string());
    eventually("the stranger is answered", SOON, || {
        ask(&stranger) == Some(address) && is_answered_by(&stranger, to, "machine")
    });
    let told = lab.get(&["serviceentry", "db", "-n", "shop"]);
    assert_eq!(told["status"]["addresses"], entry["status"]["addresses"]);

    // Gone is gone.
    lab.delete(&["serviceentry/db", "-n", "shop"]);
    eventually("the name is gone", SOON, || ask(&client).is_none());
    assert!(client.http_get(to, "/").is_err());
}

#[test]
fn connections_go_through_the_waypoint_that_a_label_names() {
    if require_root() {
        waylaid(&[]);
    }
}

#[test]
fn connections_go_through_the_waypoint_over_a_kubernetes_api() {
    if require_root() {
        waylaid(&["--control-plane", "kubernetes"]);
    }
}

/// A waypoint behind a node proxy, which hands decrypted connections to a port of its own: the answers are its own, so
/// they show which way a connection took.
fn waylaid(up: &[&str]) {
    let gate = server("shop", "gate", "gate", "node-b").replace(
        "labels: {app: gate}",
        "labels: {app: gate, gateway.networking.k8s.io/gateway-name: way}",
    );
    let manifests = join([
        namespace("shop", true),
        sleeper("shop", "client", "client", "node-a"),
        server("shop", "web", "web", "node-b"),
        service("shop", "web", "web", 80, "8080"),
        gate,
    ]);
    let lab = Lab::up_with(up, &manifests);
    let client = lab.pod("shop/client");
    let vip = SocketAddr::new(lab.service_address("shop", "web"), 80);
    assert!(is_answered_by(&client, vip, "web"));

    // Named and not there: direct, as long as no policy counts on it.
    lab.label(&["service/web", "istio.io/use-waypoint=way", "-n", "shop"]);
    assert!(is_answered_by(&client, vip, "web"));
    eventually("the author is told", SOON, || {
        bound(&lab).is_some_and(|told| told["reason"] == "WaypointIsNotReady")
    });
    lab.apply(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: get-only, namespace: shop}\nspec:\n  \
         targetRefs: [{kind: Service, name: web}]\n  rules: [{to: [{operation: {methods: [GET]}}]}]\n",
    );
    eventually("nobody would enforce the policy", SOON, || {
        client.http_get(vip, "/").is_err()
    });
    let said = ztctl(
        &[
            "policy",
            "can",
            "shop/client",
            "service:shop/web:80",
            "--name",
            lab.name(),
        ],
        SOON,
    );
    assert!(
        said.stdout.contains("counts on it"),
        "{} {}",
        said.stdout,
        said.stderr
    );

    // There.
    lab.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: way, namespace: shop, annotations: \
         {ambient.istio.io/waypoint-inbound-binding: NONE/8080}}\nspec: {gatewayClassName: istio-waypoint, listeners: \
         [{name: mesh, port: 15008, protocol: HBONE}]}\n",
    );
    eventually("the waypoint answers", SOON, || {
        is_answered_by(&client, vip, "gate")
    });
    eventually("the author is told", SOON, || {
        bound(&lab).is_some_and(|told| told["reason"] == "WaypointAccepted" && told["status"] == "True")
    });

    // Direct again.
    lab.delete(&["authorizationpolicy/get-only", "-n", "shop"]);
    match up {
        [] => lab.label(&["service/web", "istio.io/use-waypoint=none", "-n", "shop"]),
        // As kubectl does it.
        _ => drop(Api::of(&lab).patch(
            "/api/v1/namespaces/shop/services/web",
            &json!({ "metadata": { "labels": { "istio.io/use-waypoint": "none" } } }),
        )),
    }
    eventually("the pod answers", SOON, || is_answered_by(&client, vip, "web"));
    eventually("nothing is left to be told", SOON, || bound(&lab).is_none());
}

/// The condition of the Service about its waypoint.
fn bound(lab: &Lab) -> Option<Value> {
    let service = lab.get(&["service", "web", "-n", "shop"]);
    let conditions = service["status"]["conditions"].as_array()?;
    let mut found = conditions
        .iter()
        .filter(|told| told["type"] == "istio.io/WaypointBound");
    found.next().cloned()
}

/// The first address of the host, as the mesh answers a pod.
fn ask(from: &Pod) -> Option<IpAddr> {
    let answer = query(from, CLUSTER.parse().unwrap(), HOST).ok()?;
    answer.addresses.first().copied()
}

fn is_answered_by(from: &Pod, to: SocketAddr, name: &str) -> bool {
    let Ok(response) = from.http_get(to, "/") else {
        return false;
    };
    response.status == 200 && response.body.contains(&format!("\"{name}\""))
}
