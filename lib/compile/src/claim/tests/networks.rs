//! Addresses on other networks: the way there stays the gateway's.

use proto::workload::NetworkMode;

use super::snapshot;
use crate::testing::{compiled, workload};

const GATEWAY: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: istio-system, name: way, \
                       labels: {topology.istio.io/network: far}}\nspec: {gatewayClassName: istio-remote, addresses: [{value: \
                       203.0.113.1}], listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";

/// A WorkloadEntry and a ServiceEntry's endpoint at an address of the network, which take tunnels; each with its uid.
fn endpoints(namespace: &str, address: &str) -> [(String, String); 2] {
    let endpoint = format!(
        "address: {address}, network: far, serviceAccount: own, labels: {{networking.istio.io/tunnel: http}}"
    );
    let head = |kind: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: own}}\n"
        )
    };
    let uid = |kind: &str| format!("Kubernetes/networking.istio.io/{kind}/{namespace}/own");
    [
        (
            format!("{}spec: {{{endpoint}}}\n", head("WorkloadEntry")),
            uid("WorkloadEntry"),
        ),
        (
            format!(
                "{}spec: {{hosts: [own.example], ports: [{{number: 80, name: web}}], resolution: STATIC, endpoints: \
                 [{{{endpoint}}}]}}\n",
                head("ServiceEntry")
            ),
            format!("{}/{address}", uid("ServiceEntry")),
        ),
    ]
}

/// Whoever answers there must be the gateway that the mesh names: every tunnel to the network ends at it first.
#[test]
fn nobody_stands_where_the_gateway_of_another_network_is() {
    let gateway = mesh::NetworkAddress::new("far", "203.0.113.1".parse().unwrap());
    for (text, uid) in endpoints("a-thief", "203.0.113.1") {
        let compiler = compiled(&(GATEWAY.to_owned() + &text));
        let snapshot = snapshot(&compiler);
        let found = snapshot.workload_by_address(&gateway).expect("the gateway");
        let (namespace, account) = (&*found.namespace, &*found.service_account);
        assert_eq!(
            (namespace, account),
            ("istio-system", "way-istio-remote"),
            "{text}"
        );
        // It is an endpoint of its own services all the same, through the gateway.
        let own = workload(&compiler, &uid);
        assert!(own.network_gateway.is_some());
        assert_eq!(own.tunnel_protocol, 1);
    }
}

/// Nor anywhere else there: who has the addresses of another network is not known here.
#[test]
fn only_who_speaks_for_the_mesh_is_found_at_an_address_of_another_network() {
    for (namespace, mode) in [
        ("a-thief", NetworkMode::HostNetwork),
        ("istio-system", NetworkMode::Standard),
    ] {
        for (text, uid) in endpoints(namespace, "10.6.0.1") {
            let compiler = compiled(&(GATEWAY.to_owned() + &text));
            assert_eq!(workload(&compiler, &uid).network_mode(), mode, "{text}");
        }
    }
}
