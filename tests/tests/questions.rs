//! What `ztctl policy can` says, on a running lab and on the manifests that it came up with, is what a connection in
//! the lab then does.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tests::manifests::{join, namespace, peer_authentication, service, sleeper};
use tests::{Lab, Pod, Responder, ask_within, require_root, ztctl};

const LIMIT: Duration = Duration::from_secs(30);
const PORTS: [u16; 3] = [7001, 7002, 7003];

/// Who asks, in the lab: the pod that opens the connection.
const CALLERS: [&str; 4] = ["shop/client", "pay/batch", "outside/legacy", "shop/server-b"];

#[test]
fn what_can_says_is_what_a_connection_does() {
    if !require_root() {
        return;
    }
    let ground = [
        namespace("shop", true),
        namespace("pay", true),
        namespace("outside", false),
        sleeper("shop", "server-a", "server", "node-a"),
        sleeper("shop", "server-b", "server", "node-b"),
        sleeper("shop", "client", "client", "node-a"),
        sleeper("pay", "batch", "batch", "node-b"),
        sleeper("outside", "legacy", "default", "node-a"),
        service("shop", "server", "server-a", 80, "7001"),
        service("shop", "other", "server-a", 7001, "7002"),
    ];
    let stages: [(&str, Vec<String>); 5] = [
        ("no policy", vec![]),
        (
            "STRICT, but for one port of one workload",
            vec![
                peer_authentication("shop", "default", "STRICT"),
                policy(
                    "PeerAuthentication",
                    "shop",
                    "one-port",
                    "{selector: {matchLabels: {app: server-a}}, portLevelMtls: {7002: {mode: PERMISSIVE}}}",
                ),
            ],
        ),
        (
            "one identity is let in to one port",
            vec![policy(
                "AuthorizationPolicy",
                "shop",
                "client-only",
                "{selector: {matchLabels: {app: server-a}}, rules: [{from: [{source: {principals: \
             [cluster.local/ns/shop/sa/client]}}], to: [{operation: {ports: ['7001', '7003']}}]}]}",
            )],
        ),
        (
            "DENY goes before ALLOW",
            vec![policy(
                "AuthorizationPolicy",
                "shop",
                "not-there",
                "{action: DENY, rules: [{to: [{operation: {ports: ['7003']}}]}]}",
            )],
        ),
        (
            "a namespace for all of the mesh",
            vec![policy(
                "AuthorizationPolicy",
                "istio-system",
                "no-batch",
                "{action: DENY, rules: [{from: [{source: {namespaces: [pay]}}]}]}",
            )],
        ),
    ];
    let lab = Lab::up(&join(&ground));
    let servers = ["shop/server-a", "outside/legacy"].map(|name| lab.pod(name));
    let _responders: Vec<Responder> = servers
        .iter()
        .flat_map(|server| PORTS.map(|port| Responder::start(server, port)))
        .collect();
    let mut manifests = ground.to_vec();
    let mut seen = [0usize; 2];
    for (stage, added) in stages {
        manifests.extend(added.iter().cloned());
        let file = lab.file("stage.yaml", &join(&manifests));
        if !added.is_empty() {
            lab.apply(&join(&added));
        }
        for caller in CALLERS {
            let pod = lab.pod(caller);
            for (target, address) in targets(&lab, &servers) {
                let passes = ask_within(&pod, address, Duration::from_secs(5)).is_ok();
                let on_lab = verdict(&["--name", lab.name()], caller, &target);
                let on_manifests = verdict(&["-f", &file], caller, &target);
                assert_eq!(
                    [on_lab, on_manifests],
                    [passes; 2],
                    "{stage}: {caller} -> {target}: the connection passes: {passes}; what `can` says on the lab, and on \
                     the manifests, is beside it"
                );
                for spoken in spoken(&pod) {
                    let said = verdict(&["--name", lab.name()], &spoken, &target);
                    assert_eq!(said, passes, "{stage}: {caller}, as {spoken} -> {target}");
                }
                seen[usize::from(passes)] += 1;
            }
        }
    }
    assert!(
        seen[0] > 20 && seen[1] > 20,
        "{} refused, {} let in: this says little",
        seen[0],
        seen[1]
    );
    by_address(&lab, &manifests);
    wrong_questions(&lab);
}

/// Pods have their addresses only in the lab, so a policy by address is asked about there.
fn by_address(lab: &Lab, manifests: &[String]) {
    let [client, server] = ["shop/client", "shop/server-b"].map(|name| lab.pod(name));
    let _responder = Responder::start(&server, 7001);
    let passes = || ask_within(&client, server.at(7001), Duration::from_secs(5)).is_ok();
    assert!(passes() && verdict(&["--name", lab.name()], "shop/client", "shop/server-b:7001"));
    let deny = policy(
        "AuthorizationPolicy",
        "shop",
        "not-from-there",
        &format!(
            "{{action: DENY, rules: [{{from: [{{source: {{ipBlocks: ['{}']}}}}]}}]}}",
            client.ip
        ),
    );
    lab.apply(&deny);
    assert!(!passes());
    let on_lab = answer(&["--name", lab.name()], "shop/client", "shop/server-b:7001");
    assert_eq!(
        [&on_lab["verdict"], &on_lab["policy"]],
        ["deny", "shop/not-from-there"]
    );
    assert!(
        verdict(&["--name", lab.name()], "sa:shop/client", "shop/server-b:7001"),
        "without an address"
    );
    let file = lab.file("by-address.yaml", &join(manifests.iter().chain([&deny])));
    let on_manifests = answer(&["-f", &file], "shop/client", "shop/server-b:7001");
    assert_eq!(on_manifests["verdict"], "allow");
    assert!(
        on_manifests["notes"][0]
            .as_str()
            .unwrap()
            .contains("has no address in the manifests"),
        "{on_manifests}"
    );
}

fn wrong_questions(lab: &Lab) {
    for (from, to, code) in [
        ("shop/client", "shop/server-a", 2),
        ("client", "shop/server-a:80", 2),
        ("shop/nobody", "shop/server-a:80", 3),
        ("shop/client", "service:shop/server:81", 3),
    ] {
        can(&["--name", lab.name()], from, to).expect_code(code);
    }
    can(&["--name", "never-up"], "a/b", "c/d:80").expect_code(2);
    can(&["-f", "/nowhere.yaml"], "a/b", "c/d:80").expect_code(2);
}

/// How the pod can also be named: by account and address, or as plaintext from its address.
fn spoken(pod: &Pod) -> Vec<String> {
    match pod.name.as_str() {
        "legacy" => vec![format!("plaintext:{}", pod.ip)],
        "client" | "batch" => vec![format!("sa:{}/{}@{}", pod.namespace, pod.name, pod.ip)],
        _ => vec![],
    }
}

/// What is asked for, and where that is in the lab.
fn targets(lab: &Lab, servers: &[Pod; 2]) -> Vec<(String, SocketAddr)> {
    let mut all: Vec<(String, SocketAddr)> = PORTS
        .iter()
        .map(|port| (format!("shop/server-a:{port}"), servers[0].at(*port)))
        .collect();
    all.push(("outside/legacy:7001".to_owned(), servers[1].at(7001)));
    for (name, port) in [("server", 80), ("other", 7001)] {
        let address = SocketAddr::new(lab.service_address("shop", name), port);
        all.push((format!("service:shop/{name}:{port}"), address));
    }
    all
}

fn policy(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {spec}\n"
    )
}

fn can(on: &[&str], from: &str, to: &str) -> tests::Output {
    ztctl(&[&["policy", "can", from, to, "-o", "json"], on].concat(), LIMIT)
}

fn answer(on: &[&str], from: &str, to: &str) -> Value {
    let output = can(on, from, to);
    let answer: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{from} -> {to}: {error}: {}{}", output.stdout, output.stderr));
    let code = if answer["verdict"] == "allow" { 0 } else { 1 };
    assert_eq!(output.code, code, "{answer}");
    answer
}

fn verdict(on: &[&str], from: &str, to: &str) -> bool {
    answer(on, from, to)["verdict"] == "allow"
}
