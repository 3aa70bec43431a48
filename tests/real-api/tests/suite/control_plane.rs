//! The control plane over a real API, by the permissions of its chart alone.

use std::path::Path;
use std::time::Duration;

use ca::GrpcIssuer;
use grpc_channel::{ChannelConfig, Token};
use mesh::Identity;
use real_api::{Cluster, ControlPlane, MESH, Programs};
use serde_json::{Value, json};
use tests::{eventually, eventually_some};
use tls::server_auth::RootSource;
use tls::{IssueError, Issuer};

use crate::support::{
    PATIENCE, account, condition, holder, is_seen, names, namespace, nothing_was_forbidden, object, policy,
    roots, shop,
};

#[test]
fn the_chart_is_all_that_the_control_plane_needs() {
    let Some(programs) = Programs::named() else { return };
    let cluster = Cluster::start(&programs);
    let installed = cluster.install("defaults");
    println!(
        "Kubernetes {:?} does not have: {:?}",
        programs.version(),
        installed.unknown
    );
    shop(&cluster);
    things_to_say(&cluster);
    let mut control_plane = ControlPlane::start(&cluster, "node-a");
    control_plane.wait_ready();

    // One Secret, made once, of the type that the chart's admission policy asks for.
    let secret = cluster
        .api()
        .get(&format!("/api/v1/namespaces/{MESH}/secrets/istio-ca-secret"));
    let secret = secret.expect("the Secret of the authority");
    assert_eq!(secret["type"], "istio.io/ca-root");

    // The roots are in every namespace, also in one that is made later.
    let everywhere = |name: &str| eventually_some("the roots are there", PATIENCE, || roots(&cluster, name));
    let root = everywhere(MESH);
    cluster.put(&namespace("later", false));
    for name in ["default", "kube-system", "shop", "later"] {
        assert_eq!(everywhere(name), root);
    }
    let path = "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert";
    let edited = json!({ "data": { "root-cert.pem": "mine" } });
    cluster.api().patch(path, &edited);
    eventually("an edit is taken back", PATIENCE, || {
        roots(&cluster, "shop") == Some(root.clone())
    });
    cluster.api().delete(path);
    eventually("it is made again", PATIENCE, || {
        roots(&cluster, "shop") == Some(root.clone())
    });

    // What became of policies, entries and Services is on them.
    let of = |plural: &str, name: &str| format!("/apis/{plural}/{name}");
    let policies = "security.istio.io/v1/namespaces/shop/authorizationpolicies";
    let allowed = condition(&cluster, &of(policies, "allow"), "ZtunnelAccepted");
    assert_eq!(allowed["status"], "True", "{allowed:#}");
    let methods = condition(&cluster, &of(policies, "methods"), "ZtunnelAccepted");
    assert_eq!(
        (&methods["status"], &methods["reason"]),
        (&json!("True"), &json!("UnsupportedValue"))
    );
    let strict = of(
        "security.istio.io/v1/namespaces/shop/peerauthentications",
        "strict",
    );
    assert_eq!(condition(&cluster, &strict, "ZtunnelAccepted")["status"], "True");
    let entry = of("networking.istio.io/v1/namespaces/shop/serviceentries", "outside");
    let addresses = eventually_some("an address for the host", PATIENCE, || {
        let stored = cluster.api().get(&entry)?;
        stored["status"]["addresses"]
            .as_array()
            .cloned()
            .filter(|all| !all.is_empty())
    });
    assert_eq!(addresses[0]["host"], "outside.example.com");
    let bound = condition(
        &cluster,
        "/api/v1/namespaces/shop/services/web",
        "istio.io/WaypointBound",
    );
    assert_eq!(bound["status"], "False", "{bound:#}");
    eventually("an Event", PATIENCE, || {
        let events = cluster
            .api()
            .get("/apis/events.k8s.io/v1/namespaces/shop/events")
            .unwrap_or_default();
        let events = events["items"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .any(|event| event["regarding"]["name"] == "methods" && event["type"] == "Warning")
    });

    who_calls(&cluster, &control_plane, &root);
    nothing_was_forbidden(&cluster);
    assert!(control_plane.daemon.stop(), "it does not end in good order");
    eventually("it gives the lease back", PATIENCE, || {
        holder(&cluster).is_none_or(|holder| holder.is_empty())
    });
}

/// One of everything that something is written on.
fn things_to_say(cluster: &Cluster) {
    cluster.put(&policy("shop", "allow", json!({ "rules": [{}] })));
    let methods = json!({ "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] });
    cluster.put(&policy("shop", "methods", methods));
    let strict = json!({ "mtls": { "mode": "STRICT" } });
    cluster.put(&object(
        "security.istio.io/v1",
        "PeerAuthentication",
        "shop",
        "strict",
        strict,
    ));
    let outside = json!({ "hosts": ["outside.example.com"], "resolution": "DNS", "ports": [{ "number": 443, "name": "tls" }] });
    cluster.put(&object(
        "networking.istio.io/v1",
        "ServiceEntry",
        "shop",
        "outside",
        outside,
    ));
    let waylaid = |mut object: Value| {
        object["metadata"]["labels"] = json!({ "istio.io/use-waypoint": "gone" });
        cluster.put(&object);
    };
    waylaid(object(
        "v1",
        "Service",
        "shop",
        "web",
        json!({ "selector": { "app": "web" }, "ports": [{ "port": 80 }] }),
    ));
    waylaid(object(
        "networking.istio.io/v1",
        "WorkloadEntry",
        "shop",
        "machine",
        json!({ "address": "192.0.2.7" }),
    ));
}

/// Certificates for whom the API knows, by tokens that it has given.
fn who_calls(cluster: &Cluster, control_plane: &ControlPlane, root: &str) {
    let path = cluster.folder().join("mesh-root.pem");
    std::fs::write(&path, root).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let ask = |token: String, identity: &Identity| {
        let asking = async {
            let issuer = issuer(control_plane, token, &path);
            issuer.issue(identity, Duration::from_secs(3600)).await
        };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await.unwrap() })
    };
    let [web, db] = ["web", "db"].map(|name| Identity::new("cluster.local", "shop", name));
    let proxy = |audience| cluster.token(MESH, "ztunnel", Some("ztunnel-node-a"), audience);

    let certificate = ask(proxy(Some("istio-ca")), &web).unwrap();
    assert_eq!(certificate.identity(), &web);
    assert_eq!(certificate.roots_pem(), [root.to_owned()]);
    // A pod of another node.
    let elsewhere = ask(proxy(Some("istio-ca")), &db);
    assert!(
        matches!(elsewhere, Err(IssueError::Denied { .. })),
        "{elsewhere:?}"
    );
    eventually("an Event on the proxy's pod", PATIENCE, || {
        let events = cluster
            .api()
            .get(&format!("/apis/events.k8s.io/v1/namespaces/{MESH}/events"))
            .unwrap_or_default();
        let events = events["items"].as_array().cloned().unwrap_or_default();
        events.iter().any(|event| {
            event["regarding"]["name"] == "ztunnel-node-a" && event["reason"] == "CertificateRefused"
        })
    });
    let strangers = [
        ("for the API server itself", proxy(None)),
        ("for another audience", proxy(Some("vault"))),
        (
            "bound to no pod",
            cluster.token(MESH, "ztunnel", None, Some("istio-ca")),
        ),
        ("of the cluster's administrator", "administrator".to_owned()),
        ("rubbish", "rubbish".to_owned()),
    ];
    for (what, token) in strangers {
        let refused = ask(token, &web);
        assert!(
            matches!(refused, Err(IssueError::Unauthenticated(_))),
            "{what}: {refused:?}"
        );
    }
    // Bound to a pod that is gone.
    cluster.put(&account(MESH, "ztunnel"));
    let passing = crate::support::pod(MESH, "ztunnel", "node-a", "10.1.0.9");
    cluster.put(&passing);
    let token = cluster.token(MESH, "ztunnel", Some("ztunnel"), Some("istio-ca"));
    ask(token.clone(), &web).unwrap();
    let now = json!({ "gracePeriodSeconds": 0 }).to_string();
    let (code, _) = cluster.api().send(
        "DELETE",
        &format!("/api/v1/namespaces/{MESH}/pods/ztunnel"),
        "application/json",
        &now,
    );
    assert_eq!(code, 200);
    eventually("the token ends with the pod", PATIENCE, || {
        matches!(
            ask(token.clone(), &web),
            Err(IssueError::Unauthenticated(_) | IssueError::Denied { .. })
        )
    });
}

fn issuer(control_plane: &ControlPlane, token: String, root: &Path) -> GrpcIssuer {
    let url = format!("https://{}", control_plane.address());
    let mut config = ChannelConfig::new(url, RootSource::Path(root.to_owned()));
    config.alternative_name = Some("istiod.istio-system.svc".to_owned());
    config.token = Token::Inline(token);
    GrpcIssuer::for_node(config.channel().unwrap())
}

#[test]
fn one_of_two_replicas_writes() {
    let Some(programs) = Programs::named() else { return };
    let cluster = Cluster::start(&programs);
    cluster.install("defaults");
    shop(&cluster);
    let mut replicas = ["node-a", "node-b"].map(|node| ControlPlane::start(&cluster, node));
    replicas.iter_mut().for_each(ControlPlane::wait_ready);
    eventually("one leads", PATIENCE, || replicas.iter().any(ControlPlane::leads));
    is_seen(&cluster, "first");
    let secrets = names(&cluster, &format!("/api/v1/namespaces/{MESH}/secrets"));
    assert_eq!(
        secrets.iter().filter(|name| *name == "istio-ca-secret").count(),
        1
    );
    let made = cluster.requests().into_iter().filter(|request| {
        request.verb == "create" && request.uri.contains("/secrets") && request.code == 201
    });
    assert_eq!(made.count(), 1, "the key is made once");

    // The leader dies without a word; the other one writes.
    let [first, second] = replicas;
    let (dying, left) = match first.leads() {
        true => (first, second),
        false => (second, first),
    };
    let before = holder(&cluster);
    dying.daemon.kill();
    eventually("the other leads", PATIENCE, || {
        left.leads() && holder(&cluster) != before
    });
    is_seen(&cluster, "second");
    nothing_was_forbidden(&cluster);
}
