//! What is left when a release goes: taken over by one in another namespace, and removed as docs/install.md says.

use real_api::{Cluster, MESH};
use serde_json::Value;

use crate::support::names;

/// Another namespace than [`MESH`].
pub(crate) const ELSEWHERE: &str = "mesh";

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Definitions that a release left behind stay as they are when one in another namespace is installed, and are its own after
/// the commands of the chart's notes.
#[track_caller]
pub(crate) fn moves_elsewhere(cluster: &Cluster, helm: &dyn Fn(&str)) {
    let definitions: Vec<String> = charts::definitions()
        .unwrap()
        .iter()
        .map(|definition| definition["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let owner = |name: &str| -> Value {
        let definition = cluster.api().get(&format!("{DEFINITIONS}/{name}")).unwrap();
        definition["metadata"]["annotations"]["meta.helm.sh/release-namespace"].clone()
    };
    helm("install");
    for name in &definitions {
        assert_eq!(owner(name), MESH, "{name}");
    }
    let notes = charts::files()
        .into_iter()
        .find(|(path, _)| *path == "templates/NOTES.txt");
    let notes = String::from_utf8(notes.unwrap().1.to_vec()).unwrap();
    for command in commands(&notes, &["label --overwrite crd", "annotate --overwrite crd"]) {
        let command = command
            .replace("{{ . }}", &definitions.join(" "))
            .replace("{{ $.Release.Name }}", charts::NAME)
            .replace("{{ $.Release.Namespace }}", ELSEWHERE);
        run(cluster, &command);
    }
    helm("upgrade");
    for name in &definitions {
        assert_eq!(owner(name), ELSEWHERE, "{name}");
    }
    helm("uninstall");
}

/// After the commands of docs/install.md nothing is there that the mesh has made.
#[track_caller]
pub(crate) fn nothing_stays(cluster: &Cluster) {
    let everywhere = |kind: &str| {
        let objects = cluster.api().get(&format!("/api/v1/{kind}")).unwrap();
        let objects = objects["items"].as_array().unwrap().iter();
        let ours = objects.filter_map(|object| object["metadata"]["name"].as_str());
        ours.filter(|name| name.starts_with("istio-ca-") || name.starts_with("ztunnel-ca"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // Otherwise nothing is tried here.
    assert!(everywhere("secrets").contains(&"istio-ca-secret".to_owned()));
    assert!(
        everywhere("configmaps").len() > 2,
        "{:?}",
        everywhere("configmaps")
    );
    let page = include_str!("../../../../docs/install.md");
    let stays = page.split("## What stays after uninstalling").nth(1).unwrap();
    let stays = stays.split("\n## ").next().unwrap();
    let has_bundles = cluster
        .api()
        .get("/apis/certificates.k8s.io/v1alpha1/clustertrustbundles")
        .is_some();
    for command in commands(stays, &["delete", "-n istio-system delete"]) {
        if has_bundles || !command.contains("clustertrustbundle") {
            run(cluster, &command);
        }
    }
    assert_eq!(everywhere("secrets"), Vec::<String>::new());
    assert_eq!(everywhere("configmaps"), Vec::<String>::new());
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{MESH}/leases");
    assert_eq!(names(cluster, &leases), Vec::<String>::new());
    let left = names(cluster, DEFINITIONS);
    assert!(!left.iter().any(|name| name.ends_with(".istio.io")), "{left:?}");
}

/// The lines of a text that are commands of kubectl with one of these beginnings, without `kubectl`.
fn commands(text: &str, beginnings: &[&str]) -> Vec<String> {
    let commands = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("kubectl "));
    let commands: Vec<String> = commands
        .filter(|command| beginnings.iter().any(|start| command.starts_with(start)))
        .map(str::to_owned)
        .collect();
    assert!(commands.len() >= beginnings.len(), "{commands:?}");
    commands
}

#[track_caller]
fn run(cluster: &Cluster, command: &str) {
    let arguments: Vec<&str> = command.split_whitespace().collect();
    cluster.kubectl(&arguments, "").expect_code(0);
}
