//! The chart by Helm's own engine: installed, upgraded, uninstalled, as `ztctl install` has it done.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use real_api::{Cluster, ControlPlane, MESH, Programs};
use serde_json::{Value, json};
use tests::{Output, run};

use crate::leaving;
use crate::support::{account, names, nothing_was_forbidden, shop};

/// How long Helm may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// What the chart asks for.
const WANTED: (u32, u32) = (1, 31);

#[test]
fn helm_installs_upgrades_and_uninstalls() {
    let Some(programs) = Programs::named() else { return };
    let Some(python) = std::env::var_os("HELM_PYTHON").map(PathBuf::from) else {
        println!("skipped: HELM_PYTHON names no Python with Helm's engine (scripts/helm)");
        return;
    };
    let cluster = Cluster::start(&programs);
    charts::write_to(cluster.folder()).unwrap();
    let chart = cluster.folder().join(charts::NAME);
    let helm_in = |namespace: &str, values: &Value, action: &str| -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/helm.py");
        let mut command = Command::new(&python);
        command
            .arg(script)
            .arg(cluster.kubeconfig("administrator"))
            .arg(&chart);
        command.args([namespace, &values.to_string(), action]);
        run(command, None, PATIENCE)
    };
    let helm = |values: &Value, action: &str| helm_in(MESH, values, action);
    let mut values = json!({});
    if programs.version() < WANTED {
        // What it asks for is asked for: an older server is refused before anything is made.
        let refused = helm(&values, "install");
        assert!(
            refused.code != 0 && refused.stderr.contains("kubeVersion"),
            "{refused:?}"
        );
        assert_eq!(
            names(&cluster, &format!("/api/v1/namespaces/{MESH}/secrets")),
            Vec::<String>::new()
        );
        relax(&chart);
        values = json!({
            "admissionPolicy": { "enabled": false, "restrictAccounts": false },
            "ztunnel": { "updateStrategy": { "maxSurge": 0, "maxUnavailable": 1 } },
            "controlPlane": { "autoscaling": { "enabled": false }, "podDisruptionBudget": { "enabled": false } },
        });
    }
    helm(&values, "install").expect_code(0);
    let definitions = || {
        names(
            &cluster,
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        )
    };
    let ours: Vec<String> = charts::definitions()
        .unwrap()
        .iter()
        .map(|definition| definition["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        ours.iter().all(|name| definitions().contains(name)),
        "{:?}",
        definitions()
    );

    // By what Helm has made, the control plane runs.
    cluster.put(&account("default", "default"));
    cluster.nodes();
    shop(&cluster);
    let mut control_plane = ControlPlane::start(&cluster, "node-a");
    control_plane.wait_ready();
    crate::support::is_seen(&cluster, "by-helm");

    // An upgrade keeps what it defined, and changes what it is told to; the Secret of the CA is none of its own.
    let secret = || {
        cluster
            .api()
            .get(&format!("/api/v1/namespaces/{MESH}/secrets/istio-ca-secret"))
            .unwrap()["data"]
            .clone()
    };
    let before = secret();
    values["controlPlane"]["certificateLife"] = json!("12h");
    helm(&values, "upgrade").expect_code(0);
    let deployment = cluster.api().get(&format!(
        "/apis/apps/v1/namespaces/{MESH}/deployments/ztunnel-control-plane"
    ));
    let deployment = deployment.unwrap().to_string();
    assert!(deployment.contains("--certificate-life=12h"), "{deployment}");
    assert!(
        ours.iter().all(|name| definitions().contains(name)),
        "{:?}",
        definitions()
    );
    assert_eq!(secret(), before);

    // Two agents would enrol the same pods; that is known by looking into the cluster.
    let theirs = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "istio-cni-node", "namespace": "kube-system" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": { "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "a", "image": "a" }] } } } });
    cluster.put(&theirs);
    let refused = helm(&values, "upgrade");
    assert!(
        refused.code != 0 && refused.stderr.contains("istio-cni-node in kube-system"),
        "{refused:?}"
    );
    cluster
        .api()
        .delete("/apis/apps/v1/namespaces/kube-system/daemonsets/istio-cni-node");
    // So would two control planes write over each other's roots.
    let theirs = "istiod-clusterrole-istio-system";
    cluster.put(
        &json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": theirs } }),
    );
    let refused = helm(&values, "upgrade");
    assert!(
        refused.code != 0 && refused.stderr.contains(theirs),
        "{refused:?}"
    );
    cluster.api().delete(&format!(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/{theirs}"
    ));
    nothing_was_forbidden(&cluster);

    // The definitions and what is written under them stay.
    helm(&values, "uninstall").expect_code(0);
    assert!(
        ours.iter().all(|name| definitions().contains(name)),
        "{:?}",
        definitions()
    );
    assert_eq!(
        names(
            &cluster,
            "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies"
        ),
        ["by-helm"]
    );
    assert_eq!(
        names(&cluster, &format!("/apis/apps/v1/namespaces/{MESH}/daemonsets")),
        Vec::<String>::new()
    );
    assert_eq!(secret(), before);
    // And again over what stayed; beside it, no other one.
    helm(&values, "install").expect_code(0);
    cluster.put(&crate::support::namespace(leaving::ELSEWHERE, false));
    let refused = helm_in(leaving::ELSEWHERE, &values, "install");
    assert!(
        refused.code != 0 && refused.stderr.contains("ztunnel-control-plane-istio-system"),
        "{refused:?}"
    );
    helm(&values, "uninstall").expect_code(0);
    drop(control_plane);
    leaving::moves_elsewhere(&cluster, &|action| {
        helm_in(leaving::ELSEWHERE, &values, action).expect_code(0);
    });
    leaving::nothing_stays(&cluster);
}

/// Takes out of the chart what an older server does not know: Helm holds everything against what the server says of itself.
fn relax(chart: &Path) {
    let rewrite = |file: &Path, keep: &dyn Fn(&str) -> bool| {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| keep(line)).collect();
        std::fs::write(file, lines.join("\n")).unwrap();
    };
    rewrite(&chart.join("Chart.yaml"), &|line| {
        !line.starts_with("kubeVersion:")
    });
    let newer = [
        "appArmorProfile:",
        "type: Unconfined",
        "maxSurge: {{ .updateStrategy.maxSurge }}",
    ];
    for daemon_set in ["node-agent", "ztunnel"] {
        let file = chart.join("templates").join(daemon_set).join("daemonset.yaml");
        rewrite(&file, &|line| !newer.contains(&line.trim()));
    }
    // Where a protocol is the key of a list, server-side apply knew no default for it.
    for template in [
        "control-plane/service.yaml",
        "control-plane/deployment.yaml",
        "ztunnel/daemonset.yaml",
        "node-agent/daemonset.yaml",
    ] {
        let file = chart.join("templates").join(template);
        let text = std::fs::read_to_string(&file).unwrap();
        let with_protocol = |line: &str| {
            let is_port = ["containerPort: ", "port: 15"]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            match is_port {
                true => format!(
                    "{line}\n{}protocol: TCP",
                    " ".repeat(line.len() - line.trim_start().len())
                ),
                false => line.to_owned(),
            }
        };
        let lines: Vec<String> = text.lines().map(with_protocol).collect();
        std::fs::write(file, lines.join("\n")).unwrap();
    }
    for entry in std::fs::read_dir(chart.join("files/crds")).unwrap() {
        let file = entry.unwrap().path();
        let mut objects = charts::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        objects.iter_mut().for_each(drop_rules);
        let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
        std::fs::write(file, texts.join("\n---\n")).unwrap();
    }
}

/// Rules in CEL, which came with 1.25.
fn drop_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(drop_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_rules),
        _ => {}
    }
}
