//! What objects of the chart have to do with each other.

use std::collections::BTreeSet;

use serde_json::Value;

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A NetworkPolicy that forgets a port closes it.
#[test]
fn network_policies_admit_what_their_pods_listen_on() {
    let mut seen = 0;
    for values in ["everything", "edges"] {
        let objects = charts::rendered(values).unwrap();
        for policy in of_kind(&objects, "NetworkPolicy") {
            let admitted: BTreeSet<u64> = list(&policy["spec"]["ingress"])
                .flat_map(|rule| list(&rule["ports"]))
                .map(|port| port["port"].as_u64().unwrap())
                .collect();
            let selected = &policy["spec"]["podSelector"]["matchLabels"];
            let pods = objects
                .iter()
                .filter(|object| object["spec"]["selector"]["matchLabels"] == *selected)
                .map(|object| &object["spec"]["template"]["spec"])
                .find(|pod| !pod.is_null())
                .expect("somebody whose pods are selected");
            let open: BTreeSet<u64> = list(&pods["containers"])
                .flat_map(|container| list(&container["ports"]))
                .map(|port| port["containerPort"].as_u64().unwrap())
                .collect();
            assert_eq!(admitted, open, "{values}: {}", policy["metadata"]["name"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}

/// Every account whose pods start may use what its pods need.
#[test]
fn on_openshift_every_account_has_its_constraint() {
    let objects = charts::rendered("everything").unwrap();
    let mut accounts = 0;
    for object in &objects {
        let pod = &object["spec"]["template"]["spec"];
        let Some(account) = pod["serviceAccountName"].as_str() else {
            continue;
        };
        let is_root = pod["containers"][0]["securityContext"]["runAsUser"] == 0;
        let role = match is_root {
            true => "system:openshift:scc:privileged",
            false => "system:openshift:scc:nonroot-v2",
        };
        let bound = of_kind(&objects, "RoleBinding")
            .filter(|binding| binding["roleRef"]["name"] == role)
            .flat_map(|binding| list(&binding["subjects"]))
            .any(|subject| subject["name"] == account && subject["namespace"] == "istio-system");
        assert!(bound, "{account} may not use {role}");
        accounts += 1;
    }
    assert_eq!(accounts, 3);
    // Where nothing else is said, the processes are of the type that may enter others' namespaces.
    let objects = charts::rendered("edges").unwrap();
    for object in of_kind(&objects, "DaemonSet") {
        let options = &object["spec"]["template"]["spec"]["securityContext"]["seLinuxOptions"];
        assert_eq!(options["type"], "spc_t", "{object}");
    }
}

/// Whatever the programs make, Helm does not remove: users are told.
#[test]
fn what_stays_after_uninstalling_is_told() {
    let page = include_str!("../../../docs/install.md");
    let stays = page.split("## What stays after uninstalling").nth(1).unwrap();
    let stays = stays.split("\n## ").next().unwrap();
    let commands: String = stays
        .lines()
        .filter(|line| line.trim_start().starts_with("kubectl "))
        .collect();
    let mut named = 0;
    for role in &charts::rendered("defaults").unwrap() {
        for rule in list(&role["rules"]) {
            let makes = list(&rule["verbs"]).any(|verb| matches!(text(verb), "patch" | "update"));
            for name in list(&rule["resourceNames"]).filter(|_| makes) {
                assert!(
                    commands.contains(text(name)),
                    "no command in docs/install.md removes {name}"
                );
                named += 1;
            }
        }
    }
    assert!(named >= 8, "{named}");
    for definition in charts::definitions().unwrap() {
        assert!(commands.contains(text(&definition["metadata"]["name"])));
    }
    let objects = charts::rendered("defaults").unwrap();
    let directories = of_kind(&objects, "DaemonSet")
        .flat_map(|object| list(&object["spec"]["template"]["spec"]["volumes"]))
        .filter(|volume| volume["hostPath"]["type"] == "DirectoryOrCreate");
    for volume in directories {
        let path = text(&volume["hostPath"]["path"]);
        assert!(stays.contains(path), "{path}");
    }
}
