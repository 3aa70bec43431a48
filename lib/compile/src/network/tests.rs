//! Networks of workloads, and the gateways to them.

use objects::{Kind, ObjectKey};
use proto::workload::gateway_address::Destination;

use crate::testing::{compiled, pod, puts, workload};
use crate::{Compiler, Settings};

const VM: &str = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {namespace: demo, name: vm}\nspec: \
                  {address: 10.6.0.1, network: far}\n";
const UID: &str = "Kubernetes/networking.istio.io/WorkloadEntry/demo/vm";

fn gateway(name: &str, second: u8, class: &str, protocol: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{namespace: istio-system, name: {name}, \
         creationTimestamp: \"2026-08-01T00:00:0{second}Z\", labels: {{topology.istio.io/network: far}}}}\nspec: \
         {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15009, protocol: {protocol}}}]{rest}\n"
    )
}

/// The gateway that is named to reach the machine.
fn named(compiler: &Compiler) -> Option<(String, u32)> {
    let gateway = workload(compiler, UID).network_gateway.as_ref()?;
    let words = match gateway.destination.as_ref()? {
        Destination::Address(address) => format!("{}:{:?}", address.network, address.address.to_vec()),
        Destination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
    };
    Some((words, gateway.hbone_mtls_port))
}

#[test]
fn the_oldest_gateway_of_a_network_is_named_and_is_a_workload() {
    let text = VM.to_owned()
        + &gateway(
            "second",
            2,
            "istio-remote",
            "HBONE",
            "}\nstatus: {addresses: [{value: 203.0.113.2}]}",
        )
        + &gateway(
            "first",
            1,
            "istio-remote",
            "HBONE",
            ", addresses: [{value: 203.0.113.1}]}",
        );
    let mut compiler = compiled(&text);
    assert_eq!(named(&compiler), Some(("far:[203, 0, 113, 1]".to_owned(), 15009)));
    let made = workload(&compiler, "NetworkGateway/far/203.0.113.1/15009");
    assert_eq!(
        (
            made.network.as_str(),
            made.namespace.as_str(),
            made.service_account.as_str()
        ),
        ("far", "istio-system", "first-istio-remote")
    );
    assert_eq!(made.tunnel_protocol, 1);
    compiler.apply([(ObjectKey::new(Kind::Gateway, "istio-system", "first"), None)]);
    assert_eq!(named(&compiler), Some(("far:[203, 0, 113, 2]".to_owned(), 15009)));
    assert!(
        !compiler
            .addresses()
            .contains_key("NetworkGateway/far/203.0.113.1/15009")
    );
    workload(&compiler, "NetworkGateway/far/203.0.113.2/15009");
    compiler.apply(puts(&gateway(
        "second",
        2,
        "istio-remote",
        "HBONE",
        ", addresses: [{type: Hostname, value: gw.example}]}",
    )));
    assert_eq!(
        named(&compiler),
        Some(("istio-system/gw.example".to_owned(), 15009))
    );
}

#[test]
fn a_gateway_of_the_root_namespace_goes_before_older_ones_of_others() {
    let at = |last: u8| format!(", addresses: [{{value: 203.0.113.{last}}}]}}");
    let thief = gateway("thief", 1, "istio-remote", "HBONE", &at(66));
    let thief = thief.replace("namespace: istio-system", "namespace: a-thief");
    let all = VM.to_owned() + &thief;
    // Nobody else's counts, unless the settings say so.
    let mut strict = Compiler::default();
    let output = strict.apply(puts(&all));
    assert_eq!(named(&strict), None);
    assert_eq!(strict.addresses().len(), 1, "the gateway is no workload either");
    let warned: Vec<_> = output.warnings.iter().map(|warning| &warning.object).collect();
    assert_eq!(warned, [&ObjectKey::new(Kind::Gateway, "a-thief", "thief")]);
    for allowed in ["*", "a-thief"] {
        let mut compiler = Compiler::new(Settings {
            network_gateway_namespaces: vec!["another".to_owned(), allowed.to_owned()],
            ..Settings::default()
        });
        assert_eq!(compiler.apply(puts(&all)).warnings, []);
        let other = Some(("far:[203, 0, 113, 66]".to_owned(), 15009));
        assert_eq!(named(&compiler), other, "it is the only one");
        compiler.apply(puts(&gateway("own", 9, "istio-remote", "HBONE", &at(1))));
        let own = Some(("far:[203, 0, 113, 1]".to_owned(), 15009));
        assert_eq!(named(&compiler), own);
    }
}

#[test]
fn other_gateways_are_gateways_of_no_network() {
    let address = ", addresses: [{value: 203.0.113.1}]}";
    for text in [
        gateway("w", 1, "istio-waypoint", "HBONE", address),
        gateway("w", 1, "istio-remote", "TLS", address),
        gateway("w", 1, "istio-remote", "HBONE", "}"),
    ] {
        let compiler = compiled(&(VM.to_owned() + &text));
        assert_eq!(named(&compiler), None, "{text}");
        assert_eq!(compiler.addresses().len(), 1, "{text}");
    }
}

#[test]
fn a_label_of_the_root_namespace_names_the_network_of_the_mesh() {
    let space = |labels: &str| {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: istio-system, labels: {labels}}}\n")
    };
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: web}\nspec: {clusterIP: 10.9.0.1, \
                   ports: [{port: 80}]}\n";
    let mut compiler = compiled(&(pod("demo", "p", "{}", "") + service));
    let networks = |compiler: &Compiler| {
        let pod = workload(compiler, "Kubernetes//Pod/demo/p").network.clone();
        let service = crate::testing::service(compiler, "demo/web.demo.svc.cluster.local");
        (pod, service.addresses[0].network.clone())
    };
    assert_eq!(networks(&compiler), (String::new(), String::new()));
    compiler.apply(puts(&space("{topology.istio.io/network: near}")));
    assert_eq!(networks(&compiler), ("near".to_owned(), "near".to_owned()));
    compiler.apply(puts(&space("{}")));
    assert_eq!(networks(&compiler), (String::new(), String::new()));
}

/// Callers must not go on to accept an identity that the gateway no longer has.
#[test]
fn a_gateway_whose_account_or_age_changes_is_made_again() {
    let text = |name: &str, second: u8, annotations: &str| {
        let rest = ", addresses: [{value: 203.0.113.1}]}";
        let text = gateway(name, second, "istio-remote", "HBONE", rest);
        text.replace("labels:", &format!("annotations: {{{annotations}}}, labels:"))
    };
    let account = |compiler: &Compiler| {
        let made = workload(compiler, "NetworkGateway/far/203.0.113.1/15009");
        made.service_account.clone()
    };
    let mut compiler = compiled(&(text("first", 1, "") + &text("second", 5, "")));
    assert_eq!(account(&compiler), "first-istio-remote");
    for (second, annotations, expected) in [
        (1, "gateway.istio.io/service-account: one", "one"),
        (1, "gateway.istio.io/name-override: two", "two"),
        (1, "", "first-istio-remote"),
        // It was deleted and written again.
        (9, "", "second-istio-remote"),
    ] {
        compiler.apply(puts(&text("first", second, annotations)));
        assert_eq!(account(&compiler), expected, "{second} {annotations}");
    }
}
