//! Names, as captured pods ask for them: what the proxy answers, and what it passes on to whom.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

use tests::dns::{A, AAAA, exchange, exchange_over_stream, query_over_stream, query_type, question};
use tests::manifests::{join, namespace, service, sleeper};
use tests::{Lab, NameServer, query, require_root};

/// What the lab writes into every pod's resolv.conf.
const CLUSTER: &str = "169.254.20.10:53";
const WEB: &str = "web.shop.svc.cluster.local";
const MANY: &str = "many.shop.svc.cluster.local";
/// More IPv4 addresses than fit in the 512 bytes of a datagram without extensions.
const ENDPOINTS: u8 = 60;

#[test]
fn names_are_answered_or_passed_on_as_they_were_asked() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", true),
        namespace("outside", false),
        sleeper("shop", "asker", "asker", "node-a"),
        sleeper("shop", "web", "web", "node-b"),
        sleeper("outside", "names", "default", "node-b"),
        service("shop", "web", "web", 80, "8080"),
        many(),
    ]));
    let asker = lab.pod("shop/asker");
    let cluster: SocketAddr = CLUSTER.parse().unwrap();
    let vip = lab.service_address("shop", "web");

    // Over both transports; a family that a service does not have is no reason to say that it does not exist.
    for answer in [
        query(&asker, cluster, WEB).unwrap(),
        query_over_stream(&asker, cluster, WEB).unwrap(),
    ] {
        assert_eq!((answer.code, answer.addresses), (0, vec![vip]));
    }
    let none = query_type(&asker, cluster, WEB, AAAA).unwrap();
    assert_eq!((none.code, none.addresses), (0, vec![]));

    // More than a datagram holds.
    let cut = query(&asker, cluster, MANY).unwrap();
    assert!(cut.truncated && !cut.addresses.is_empty() && cut.addresses.len() < ENDPOINTS.into());
    let whole = query_over_stream(&asker, cluster, MANY).unwrap();
    let expected: Vec<IpAddr> = (1..=ENDPOINTS).map(|last| [192, 0, 2, last].into()).collect();
    assert_eq!((whole.truncated, whole.addresses), (false, expected));

    // A server of the pod's own choice is asked, from the pod's own address, with the pod's own bytes.
    let names = lab.pod("outside/names");
    let server = NameServer::start(&names);
    let own = names.at(53);
    let mut update = question("shop.example", 6);
    // Another operation (RFC 2136), and an end that nobody here understands.
    update[2] = 5 << 3;
    update.extend(b"opaque");
    let unknown_type = question("example.com", 65_280);
    let other_type = question(WEB, 16);
    for sent in [question("example.com", A), update, unknown_type, other_type] {
        let expected = |answer: Vec<u8>| {
            assert!(answer.ends_with(NameServer::MARK), "{answer:?}");
            assert_eq!(answer[..2], sent[..2], "the id that was asked with");
            assert_eq!(answer[3..sent.len()], sent[3..]);
        };
        expected(exchange(&asker, own, &sent).unwrap());
        expected(exchange_over_stream(&asker, own, &sent).unwrap());
        let asked = server.asked();
        let last: Vec<_> = asked.iter().rev().take(2).collect();
        for (from, bytes) in last {
            assert_eq!((*from, &bytes[..]), (asker.ip, &sent[2..]));
        }
    }
    // The mesh's names don't get there.
    let count = server.asked().len();
    assert_eq!(count, 8);
    assert_eq!(query(&asker, own, WEB).unwrap().addresses, [vip]);
    assert_eq!(server.asked().len(), count);

    let counted = |name: &str, protocol: &str| {
        let labels = [
            ("request_protocol", protocol),
            ("source_canonical_service", "asker"),
        ];
        lab.metric("node-a", name, &labels)
    };
    for (protocol, requests) in [("udp", 8.0), ("tcp", 6.0)] {
        assert_eq!(
            counted("istio_dns_requests_total", protocol),
            requests,
            "{protocol}"
        );
        assert_eq!(
            counted("istio_dns_upstream_requests_total", protocol),
            4.0,
            "{protocol}"
        );
        assert_eq!(
            counted("istio_dns_upstream_request_duration_seconds_count", protocol),
            4.0,
            "{protocol}"
        );
        assert_eq!(
            counted("istio_dns_upstream_failures_total", protocol),
            0.0,
            "{protocol}"
        );
    }
}

/// A service without an address of its own, and endpoints made by hand.
fn many() -> String {
    let endpoints: Vec<String> = (1..=ENDPOINTS)
        .map(|last| format!("- addresses: [192.0.2.{last}]\n  conditions: {{ready: true}}"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: many\n  namespace: shop\nspec:\n  clusterIP: None\n  \
         ports:\n  - name: main\n    port: 80\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
         name: many-1\n  namespace: shop\n  labels: {{kubernetes.io/service-name: many}}\naddressType: IPv4\nports:\n\
         - name: main\n  port: 80\n  protocol: TCP\nendpoints:\n{}\n",
        endpoints.join("\n")
    )
}
