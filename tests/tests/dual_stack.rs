//! A mesh of both address families: what holds for one holds for the other.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::Value;
use tests::dns::{AAAA, query_type};
use tests::manifests::{join, namespace, peer_authentication, server, sleeper};
use tests::{Capture, Lab, Pod, query, require_root};

const CLUSTER: &str = "169.254.20.10:53";
const WEB: &str = "web.shop.svc.cluster.local";
const HBONE: u16 = 15008;

#[test]
fn both_families_are_captured_named_and_refused_alike() {
    if !require_root() || !has_ipv6() {
        return;
    }
    let lab = Lab::up_with(
        &["--ipv6"],
        &join([
            namespace("shop", true),
            namespace("outside", false),
            sleeper("shop", "client", "client", "node-a"),
            sleeper("shop", "intruder", "intruder", "node-a"),
            server("shop", "web", "web", "node-b"),
            sleeper("outside", "visitor", "default", "node-a"),
            dual_stack_service(),
        ]),
    );
    let [client, intruder, web, visitor] =
        ["shop/client", "shop/intruder", "shop/web", "outside/visitor"].map(|name| lab.pod(name));
    let of = |pod: &Pod| families(&lab, pod);
    let targets = of(&web).map(|address| SocketAddr::new(address, 8080));
    let clients = of(&client);
    let services = service_addresses(&lab);

    // The wire of the node has tunnels only, in both families, and the application sees the caller's own address.
    let capture = Capture::start(&lab.fabric(), "node-b", "tcp and not port 15012");
    for (index, target) in targets.into_iter().enumerate() {
        let service = SocketAddr::new(services[index], 80);
        for address in [target, service] {
            let answer = client.http_get(address, "/").unwrap();
            assert_eq!(answer.status, 200, "{address}");
            assert_eq!(peer(&answer.body), clients[index], "{address}");
        }
    }
    let packets = capture.stop();
    for (index, own) in of(&web).into_iter().enumerate() {
        let between = [own, clients[index]];
        let seen: Vec<_> = packets
            .iter()
            .filter(|packet| between.contains(&packet.src.ip()) && between.contains(&packet.dst.ip()))
            .collect();
        assert!(!seen.is_empty(), "nothing between {between:?}");
        assert!(seen.iter().all(|packet| packet.has_port(HBONE)), "{seen:?}");
    }

    // Names have both, whichever server is asked.
    let cluster: SocketAddr = CLUSTER.parse().unwrap();
    assert_eq!(query(&client, cluster, WEB).unwrap().addresses, [services[0]]);
    assert_eq!(
        query_type(&client, cluster, WEB, AAAA).unwrap().addresses,
        [services[1]]
    );
    let nowhere = query_type(&client, cluster, "nowhere.shop.svc.cluster.local", AAAA).unwrap();
    assert_eq!((nowhere.code, nowhere.addresses), (3, vec![]));

    // Plaintext is let in, and then it is not; who has an identity notices nothing.
    let open = |from: &Pod| {
        targets.map(|target| {
            from.http_get(target, "/")
                .is_ok_and(|answer| answer.status == 200)
        })
    };
    assert_eq!(open(&visitor), [true; 2], "PERMISSIVE");
    lab.apply(&peer_authentication("shop", "default", "STRICT"));
    assert_eq!(open(&visitor), [false; 2], "STRICT");
    assert_eq!(open(&client), [true; 2], "STRICT");

    // By identity, and by the caller's address of either family.
    lab.apply(&allow(
        "from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]",
    ));
    assert_eq!((open(&client), open(&intruder)), ([true; 2], [false; 2]));
    lab.apply(&allow(&format!(
        "from: [{{source: {{ipBlocks: ['{}']}}}}]",
        of(&intruder)[1]
    )));
    assert_eq!((open(&client), open(&intruder)), ([false; 2], [false, true]));
}

/// A machine whose kernel has no IPv6 cannot run this; where nothing may be skipped, that is a failure.
fn has_ipv6() -> bool {
    let has = Path::new("/proc/sys/net/ipv6").exists();
    if !has {
        assert!(
            std::env::var_os("REQUIRE_ROOT").is_none(),
            "this kernel has no IPv6, and no test may be skipped"
        );
        println!("SKIPPED: this kernel has no IPv6");
    }
    has
}

/// The pod's addresses: IPv4, then IPv6.
fn families(lab: &Lab, pod: &Pod) -> [IpAddr; 2] {
    let status = lab.status();
    let pods = status["pods"].as_array().unwrap();
    let pod = pods.iter().find(|other| other["uid"] == *pod.uid).unwrap();
    both(&pod["addresses"])
}

fn service_addresses(lab: &Lab) -> [IpAddr; 2] {
    let services = lab.get(&["services", "-n", "shop"]);
    both(&services["items"][0]["spec"]["clusterIPs"])
}

fn both(addresses: &Value) -> [IpAddr; 2] {
    let addresses: Vec<IpAddr> = addresses
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap().parse().unwrap())
        .collect();
    match addresses[..] {
        [first @ IpAddr::V4(_), second @ IpAddr::V6(_)] => [first, second],
        _ => panic!("one address of each family was expected: {addresses:?}"),
    }
}

/// Who called, as the application saw it.
fn peer(body: &str) -> IpAddr {
    let answer: Value = serde_json::from_str(body).unwrap();
    let peer: SocketAddr = answer["peer"].as_str().unwrap().parse().unwrap();
    peer.ip()
}

fn dual_stack_service() -> String {
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  \
     ipFamilyPolicy: RequireDualStack\n  selector: {app: web}\n  ports:\n  - name: http\n    port: 80\n    \
     targetPort: 8080\n"
        .to_owned()
}

fn allow(rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: web\n  namespace: shop\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n  action: ALLOW\n  rules:\n  - {rule}\n"
    )
}
