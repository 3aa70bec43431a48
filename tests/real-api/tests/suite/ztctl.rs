//! `ztctl` asks a real cluster, by the user's own kubectl.

use std::time::Duration;

use real_api::{Cluster, ControlPlane, Programs};
use serde_json::{Value, json};
use tests::{Output, ztctl};

use crate::support::{account, is_seen, pod, policy, shop};

#[test]
fn questions_are_answered_of_the_cluster() {
    let Some(programs) = Programs::named() else { return };
    let cluster = Cluster::start(&programs);
    cluster.install("defaults");
    shop(&cluster);
    cluster.put(&account("shop", "client"));
    cluster.put(&pod("shop", "client", "node-a", "10.1.0.3"));
    let only_web = json!({ "selector": { "matchLabels": { "app": "db" } },
        "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/shop/sa/web"] } }] }] });
    cluster.put(&policy("shop", "only-web", only_web));
    for name in ["web", "db", "client"] {
        let enrolled =
            json!({ "metadata": { "annotations": { "ambient.istio.io/redirection": "enabled" } } });
        cluster
            .api()
            .patch(&format!("/api/v1/namespaces/shop/pods/{name}"), &enrolled);
    }
    let kubeconfig = cluster.kubeconfig("administrator");
    let ask = |arguments: &[&str]| -> Output {
        let mut all = arguments.to_vec();
        all.extend(["--kubernetes", "--kubeconfig", kubeconfig.to_str().unwrap()]);
        ztctl(&all, Duration::from_secs(60))
    };
    let db = "shop/db:8080";
    let allowed = ask(&["policy", "can", "shop/web", db]).expect_code(0);
    assert!(allowed.stdout.contains("shop/only-web"), "{allowed:?}");
    ask(&["policy", "can", "shop/client", db]).expect_code(1);
    ask(&["policy", "explain", "shop/client", db]);
    ask(&["policy", "lint"]);

    let mut control_plane = ControlPlane::start(&cluster, "node-a");
    control_plane.wait_ready();
    is_seen(&cluster, "ready");
    let status = ask(&["ca", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status.expect_code(0).stdout).unwrap();
    assert!(status.is_object(), "{status}");
    println!("{status:#}");
}
