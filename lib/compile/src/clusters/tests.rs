mod route;
mod whole;

use std::collections::BTreeMap;

use proto::workload::gateway_address::Destination;
use proto::workload::load_balancing::{HealthPolicy, Mode, Scope};
use proto::workload::{Service, Workload, WorkloadStatus};

use super::*;
use crate::testing::puts;

const WEB: &str = "demo/web.demo.svc.cluster.local";
const FAR: &str = "n2/SplitHorizonWorkload/istio-system/edge/demo/web.demo.svc.cluster.local";
const EDGE: &str = "NetworkGateway/n2/192.0.2.1/15008";

/// The root namespace of a cluster on a network.
fn on_network(network: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: istio-system, labels: {{topology.istio.io/network: {network}}}}}\n"
    )
}

fn web(labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: demo, name: web, labels: {labels}}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}\n"
    )
}

fn pod(name: &str, account: &str, ready: bool, captured: bool) -> String {
    let annotation = if captured {
        "ambient.istio.io/redirection: enabled"
    } else {
        "a: b"
    };
    let ready = if ready { "True" } else { "False" };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: demo, name: {name}, labels: {{app: web}}, annotations: {{{annotation}}}}}\n\
         spec: {{serviceAccountName: {account}, nodeName: node-a, containers: [{{name: a, ports: [{{name: http, containerPort: 8080}}]}}]}}\n\
         status: {{phase: Running, podIP: 10.1.0.2, conditions: [{{type: Ready, status: \"{ready}\"}}]}}\n"
    )
}

fn edge(name: &str, namespace: &str, address: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{namespace: {namespace}, name: {name}, labels: {{topology.istio.io/network: n2}}}}\n\
         spec: {{gatewayClassName: istio-east-west, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n\
         status: {{addresses: [{address}]}}\n"
    )
}

const GLOBAL: &str = "{istio.io/global: \"true\"}";
const ADDRESS: &str = "{type: IPAddress, value: 192.0.2.1}";

/// What proxies have been told.
#[derive(Default)]
struct Told(BTreeMap<String, Address>);

impl Told {
    fn take(&mut self, output: Output) -> usize {
        assert!(output.policies.is_empty() && output.conditions.keys().all(|key| key.kind == Kind::Service));
        let changes = output.addresses.len() + output.removed_addresses.len();
        for name in output.removed_addresses {
            assert!(
                !output.addresses.contains_key(&name),
                "{name} is told and taken back"
            );
            self.0.remove(&name);
        }
        self.0.extend(output.addresses);
        changes
    }

    fn workload(&self, uid: &str) -> Option<&Workload> {
        match &self.0.get(uid)?.r#type {
            Some(Type::Workload(workload)) => Some(workload),
            other => panic!("{uid}: {other:?}"),
        }
    }

    fn service(&self, key: &str) -> &Service {
        match &self.0[key].r#type {
            Some(Type::Service(service)) => service,
            other => panic!("{key}: {other:?}"),
        }
    }

    fn capacity(&self) -> Option<u32> {
        self.workload(FAR)?.capacity
    }
}

/// A mesh of this cluster on `n1` and `west` on `n2`, with a Service for both and two pods of it in `west`.
fn two() -> (Clusters, Told) {
    let mut clusters = Clusters::new(Settings::default());
    let mut told = Told::default();
    told.take(clusters.apply(puts(&(on_network("n1") + &web(GLOBAL)))));
    let west = on_network("n2")
        + &web(GLOBAL)
        + &edge("edge", "istio-system", ADDRESS)
        + &pod("a", "web", true, true)
        + &pod("b", "web", true, true);
    told.take(clusters.apply_remote("west", puts(&west)));
    (clusters, told)
}

#[test]
fn the_endpoints_of_another_network_are_one_workload_behind_its_gateway() {
    let (clusters, told) = two();
    let far = told.workload(FAR).unwrap();
    assert_eq!((far.network.as_str(), far.namespace.as_str()), ("n2", "demo"));
    assert_eq!(far.capacity, Some(2));
    assert!(far.addresses.is_empty() && far.hostname.is_empty() && far.service_account.is_empty());
    assert_eq!(far.status(), WorkloadStatus::Healthy);
    assert_eq!(far.tunnel_protocol(), proto::workload::TunnelProtocol::Hbone);
    let ports = &far.services[WEB].ports;
    assert_eq!(
        ports
            .iter()
            .map(|port| (port.service_port, port.target_port))
            .collect::<Vec<_>>(),
        [(80, 80)],
        "a named port is found out there"
    );
    let gateway = far.network_gateway.as_ref().unwrap();
    assert_eq!(gateway.hbone_mtls_port, 15008);
    let Some(Destination::Address(address)) = &gateway.destination else {
        panic!("{gateway:?}")
    };
    assert_eq!(
        (address.network.as_str(), &address.address[..]),
        ("n2", &[192, 0, 2, 1][..])
    );

    let edge = told.workload(EDGE).unwrap();
    assert_eq!(
        (edge.network.as_str(), edge.service_account.as_str()),
        ("n2", "edge")
    );
    assert_eq!(
        (edge.namespace.as_str(), edge.cluster_id.as_str()),
        ("istio-system", "west")
    );

    let web = told.service(WEB);
    assert_eq!(web.subject_alt_names, ["spiffe://cluster.local/ns/demo/sa/web"]);
    let balancing = web.load_balancing.as_ref().unwrap();
    assert_eq!(balancing.routing_preference, [i32::from(Scope::Network)]);
    assert_eq!(
        (balancing.mode(), balancing.health_policy()),
        (Mode::Failover, HealthPolicy::OnlyHealthy)
    );
    assert_eq!(
        told.0.len(),
        3,
        "and no pod of the other cluster: {:?}",
        told.0.keys()
    );

    // As node proxies read it.
    mesh::Workload::from_proto(far.clone()).expect("a good workload");
    let report = &clusters.report()["west"];
    assert_eq!(
        (report.network.as_str(), report.services, report.joined),
        ("n2", 1, 1)
    );
    assert_eq!(
        (report.gateway.as_deref(), report.hindrance),
        (Some("istio-system/edge"), None)
    );
}

#[test]
fn capacity_follows_what_is_ready_and_takes_tunnels() {
    let (mut clusters, mut told) = two();
    let mut change = |text: String| {
        let cost = told.take(clusters.apply_remote("west", puts(&text)));
        (told.capacity(), told.service(WEB).subject_alt_names.len(), cost)
    };
    assert_eq!(change(pod("b", "web", false, true)), (Some(1), 1, 1));
    assert_eq!(
        change(pod("c", "web", true, false)),
        (Some(1), 1, 0),
        "outside of the mesh"
    );
    assert_eq!(change(pod("d", "other", true, true)), (Some(2), 2, 2));
    assert_eq!(change(pod("a", "web", false, true)), (Some(1), 2, 1));
    // None is ready: nothing is sent there, and who is there may still answer.
    assert_eq!(change(pod("d", "other", false, true)), (None, 2, 1));
    assert_eq!(change(pod("d", "other", true, true)), (Some(1), 2, 1));
    let gone = ["a", "b", "d"].map(|name| (ObjectKey::new(Kind::Pod, "demo", name), None));
    told.take(clusters.apply_remote("west", gone));
    assert_eq!(told.capacity(), None);
    let web = told.service(WEB);
    assert!(web.subject_alt_names.is_empty() && web.load_balancing.is_none());
}

#[test]
fn a_service_is_one_only_where_it_is_for_all_clusters_in_both() {
    let (mut clusters, mut told) = two();
    for (far, near, is_one) in [
        (GLOBAL, "{}", false),
        ("{}", "{}", false),
        ("{}", GLOBAL, false),
        (GLOBAL, GLOBAL, true),
    ] {
        told.take(clusters.apply_remote("west", puts(&web(far))));
        told.take(clusters.apply(puts(&web(near))));
        assert_eq!(told.capacity().is_some(), is_one, "{far} {near}");
        assert_eq!(!told.service(WEB).subject_alt_names.is_empty(), is_one);
    }
    // The settings say another label; it is that of the namespace.
    let scopes = |text: &str| objects::MeshConfig::parse(text).unwrap().service_scopes;
    let by_namespace =
        "serviceScopeConfigs: [{namespaceSelector: {matchLabels: {shared: a}}, scope: GLOBAL}]";
    told.take(clusters.set_scopes(scopes(by_namespace)));
    assert_eq!(told.capacity(), None);
    let demo = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo, labels: {shared: a}}\n";
    told.take(clusters.apply(puts(demo)));
    assert_eq!(told.capacity(), None);
    told.take(clusters.apply_remote("west", puts(demo)));
    assert_eq!(told.capacity(), Some(2));
    // Gone here, and there.
    told.take(clusters.apply([(ObjectKey::new(Kind::Service, "demo", "web"), None)]));
    assert_eq!(told.0.keys().collect::<Vec<_>>(), [EDGE]);
    told.take(clusters.apply(puts(&web("{}"))));
    assert_eq!(told.capacity(), Some(2));
    told.take(clusters.apply_remote("west", [(ObjectKey::new(Kind::Service, "demo", "web"), None)]));
    assert_eq!(told.capacity(), None);
}

#[test]
fn nothing_is_told_of_a_network_without_a_gateway_and_the_report_says_why() {
    let mut clusters = Clusters::new(Settings::default());
    let mut told = Told::default();
    told.take(clusters.apply(puts(&(on_network("n1") + &web(GLOBAL)))));
    let west = web(GLOBAL) + &pod("a", "web", true, true);
    told.take(clusters.apply_remote("west", puts(&west)));
    let mut step = |text: String, hindrance: Option<Hindrance>| {
        told.take(clusters.apply_remote("west", puts(&text)));
        assert_eq!(clusters.report()["west"].hindrance, hindrance, "{text}");
        assert_eq!(told.capacity().is_some(), hindrance.is_none(), "{text}");
        assert_eq!(told.0.contains_key(EDGE), hindrance.is_none(), "{text}");
        assert_eq!(
            told.service(WEB).subject_alt_names.is_empty(),
            hindrance.is_some()
        );
    };
    step(
        String::from("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n"),
        Some(Hindrance::NoNetwork),
    );
    step(on_network("n1"), Some(Hindrance::SameNetwork));
    step(on_network("n2"), Some(Hindrance::NoGateway));
    step(
        edge("edge", "istio-system", "").replace("addresses: []", "x: y"),
        Some(Hindrance::NoGateway),
    );
    step(edge("edge", "demo", ADDRESS), Some(Hindrance::NoGateway));
    step(
        edge("edge", "istio-system", ADDRESS).replace("15008, protocol: HBONE", "443, protocol: TLS"),
        Some(Hindrance::NoGateway),
    );
    step(
        edge("edge", "istio-system", ADDRESS).replace("network: n2", "network: n3"),
        Some(Hindrance::NoGateway),
    );
    step(
        edge("edge", "istio-system", ADDRESS).replace("istio-east-west", "istio-waypoint"),
        Some(Hindrance::NoGateway),
    );
    step(
        edge(
            "edge",
            "istio-system",
            &format!("{{type: Hostname, value: a.example}}, {ADDRESS}"),
        ),
        None,
    );
    step(on_network("n1"), Some(Hindrance::SameNetwork));
    step(on_network("n2"), None);
    // Our own network takes that name.
    told.take(clusters.apply(puts(&on_network("n2"))));
    assert_eq!(told.0.keys().collect::<Vec<_>>(), [WEB]);
    told.take(clusters.apply(puts(&on_network("n1"))));
    assert_eq!(told.capacity(), Some(1));
}

#[test]
fn a_gateway_that_is_written_here_goes_before_and_is_told_once() {
    let (mut clusters, mut told) = two();
    let written = edge("by-hand", "istio-system", "")
        .replace("istio-east-west", "istio-remote")
        .replace("addresses: []", "x: y")
        .replace(
            "spec: {",
            "spec: {addresses: [{type: IPAddress, value: 192.0.2.1}], ",
        );
    told.take(clusters.apply(puts(&written)));
    let uid = FAR.replace("/edge/", "/by-hand/");
    assert!(told.workload(FAR).is_none());
    assert_eq!(told.workload(&uid).unwrap().capacity, Some(2));
    assert_eq!(told.workload(EDGE).unwrap().name, "by-hand");
    told.take(clusters.apply([(ObjectKey::new(Kind::Gateway, "istio-system", "by-hand"), None)]));
    assert_eq!(told.workload(EDGE).unwrap().name, "edge");
    assert_eq!(told.capacity(), Some(2));
}

#[test]
fn clusters_on_one_network_are_counted_together_and_one_that_goes_takes_its_own() {
    let (mut clusters, mut told) = two();
    let east = on_network("n2")
        + &web(GLOBAL)
        + &edge("east-edge", "istio-system", "{type: IPAddress, value: 192.0.2.9}")
        + &pod("a", "elsewhere", true, true);
    told.take(clusters.apply_remote("east", puts(&east)));
    // By name, east comes first.
    let uid = FAR.replace("/edge/", "/east-edge/");
    assert_eq!(told.workload(&uid).unwrap().capacity, Some(3));
    assert_eq!(told.service(WEB).subject_alt_names.len(), 2);
    assert!(told.workload(EDGE).is_none());
    told.take(clusters.remove("east"));
    assert_eq!(told.capacity(), Some(2));
    assert_eq!(
        told.service(WEB).subject_alt_names,
        ["spiffe://cluster.local/ns/demo/sa/web"]
    );
    told.take(clusters.remove("west"));
    assert_eq!(told.0.keys().collect::<Vec<_>>(), [WEB]);
    assert!(told.service(WEB).subject_alt_names.is_empty() && told.service(WEB).load_balancing.is_none());
    assert!(clusters.report().is_empty());
}

#[test]
fn what_the_author_prefers_stays_and_a_change_here_loses_nothing() {
    let (mut clusters, mut told) = two();
    let strict = web(GLOBAL).replace("spec: {", "spec: {internalTrafficPolicy: Local, ");
    told.take(clusters.apply(puts(&strict)));
    let web_now = told.service(WEB);
    assert_eq!(web_now.subject_alt_names.len(), 1);
    let balancing = web_now.load_balancing.as_ref().unwrap();
    assert_eq!(balancing.routing_preference, [i32::from(Scope::Node)]);
    assert_eq!(balancing.mode(), Mode::Strict);
    let unready = web(GLOBAL).replace("spec: {", "spec: {publishNotReadyAddresses: true, ");
    told.take(clusters.apply(puts(&unready)));
    let balancing = told.service(WEB).load_balancing.as_ref().unwrap();
    assert_eq!(balancing.routing_preference, [i32::from(Scope::Network)]);
    assert_eq!(
        (balancing.mode(), balancing.health_policy()),
        (Mode::Failover, HealthPolicy::AllowAll)
    );
}

#[test]
fn one_pod_there_costs_that_pod_and_its_service() {
    let (mut clusters, mut told) = two();
    let many: String = (0..200)
        .map(|n| pod(&format!("p{n}"), "web", true, true))
        .collect();
    told.take(clusters.apply_remote("west", puts(&many)));
    let others: String = (0..50)
        .map(|n| {
            web(GLOBAL)
                .replace("name: web,", &format!("name: other-{n},"))
                .replace("10.96.0.1", &format!("10.96.1.{n}"))
        })
        .collect();
    told.take(clusters.apply(puts(&others)));
    told.take(clusters.apply_remote("west", puts(&others)));
    told.take(clusters.apply_remote(
        "west",
        puts(&pod("lone", "web", true, true).replace("app: web", "app: lone")),
    ));
    let before = (clusters.made(), clusters.remotes["west"].cost());
    let cost = told.take(clusters.apply_remote(
        "west",
        puts(&pod("lone", "web", false, true).replace("app: web", "app: lone")),
    ));
    assert_eq!(cost, 0);
    assert_eq!(
        (clusters.made(), clusters.remotes["west"].cost()),
        (before.0, before.1 + 1)
    );
    // It serves every one of the 51.
    let cost = told.take(clusters.apply_remote("west", puts(&pod("p7", "web", false, true))));
    assert_eq!(cost, 51);
    assert_eq!(
        (clusters.made(), clusters.remotes["west"].cost()),
        (before.0 + 51, before.1 + 2)
    );
}

#[test]
fn there_is_room_for_so_many_clusters_and_accounts() {
    let (mut clusters, mut told) = two();
    let many: String = (0..300)
        .map(|n| pod(&format!("p{n}"), &format!("account-{n}"), true, true))
        .collect();
    told.take(clusters.apply_remote("west", puts(&many)));
    assert_eq!(told.service(WEB).subject_alt_names.len(), 256);
    for n in 1..MAX_CLUSTERS + 10 {
        told.take(clusters.apply_remote(&format!("cluster-{n}"), puts(&on_network("n2"))));
    }
    assert_eq!(clusters.report().len(), MAX_CLUSTERS);
}
