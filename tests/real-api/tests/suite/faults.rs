//! The API server is restarted, etcd is away, history is forgotten: no change is lost, and nothing is said wrongly.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use real_api::{Cluster, ControlPlane, Programs, Request};
use tests::eventually;

use crate::support::{PATIENCE, is_seen, nothing_was_forbidden_since, policies_are_served, shop};

#[test]
fn no_change_is_lost_by_what_happens_to_the_server() {
    let Some(programs) = Programs::named() else { return };
    let mut cluster = Cluster::start(&programs);
    cluster.install("defaults");
    shop(&cluster);
    let mut control_plane = ControlPlane::start(&cluster, "node-a");
    control_plane.wait_ready();
    is_seen(&cluster, "before");

    for (name, in_order) in [("after-a-restart", true), ("after-a-crash", false)] {
        cluster.stop_api_server(in_order);
        cluster.start_api_server();
        is_seen(&cluster, name);
    }

    cluster.stop_etcd();
    cluster.start_etcd();
    cluster.wait_ready();
    is_seen(&cluster, "after-etcd");

    // Stopped while things change and history is forgotten, and the server holds no more of it than etcd.
    let id = Pid::from_raw(i32::try_from(control_plane.daemon.id()).unwrap());
    kill(id, Signal::SIGSTOP).unwrap();
    // What is told from here on does not wait for it in a socket.
    cluster.stop_api_server(false);
    cluster.start_api_server();
    policies_are_served(&cluster);
    let policies = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
    cluster.api().delete(&format!("{policies}/before"));
    cluster.put(&crate::support::policy(
        "shop",
        "meanwhile",
        serde_json::json!({ "rules": [{}] }),
    ));
    cluster.stop_api_server(false);
    cluster.compact();
    cluster.start_api_server();
    let asked = cluster.requests().len();
    kill(id, Signal::SIGCONT).unwrap();
    is_seen(&cluster, "meanwhile");
    is_seen(&cluster, "after-compaction");
    let lists_all = |request: &Request| {
        request.verb == "list"
            && request.code == 200
            && request.uri.contains("/authorizationpolicies?")
            && request.uri.contains("limit=500")
    };
    assert!(
        cluster.requests()[asked..].iter().any(lists_all),
        "nothing was too old"
    );
    eventually("it is ready", PATIENCE, || {
        control_plane
            .get("/ready")
            .is_some_and(|(status, _)| status == 200)
    });

    // A server that has begun anew does not know its own roles at once. Once it does, nothing is forbidden.
    let asked = cluster.requests().len();
    is_seen(&cluster, "at-last");
    nothing_was_forbidden_since(&cluster, asked);
}
