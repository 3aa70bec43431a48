use super::super::Pages;
use super::super::tests::{context, exchange, served};
use super::*;
use crate::connections::{InboundSubject, Subject};
use crate::pods::{Pod, PodId};
use crate::readiness::Readiness;
use crate::state::{StateHandler, Writer};
use crate::testing::log;
use bytes::Bytes;
use mesh::Identity;
use prost::Message;
use proto::security::{
    AUTHORIZATION_TYPE_URL, Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match,
};
use proto::workload::address::Type;
use proto::workload::{
    ADDRESS_TYPE_URL, Address, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload,
};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use telemetry::FilterHandle;
use xds_client::{Handler, ResourceUpdate, Update};

#[tokio::test]
async fn foreign_web_pages_are_refused() {
    let at = served(Pages::Admin(context())).await;
    let status = |head: String| async move { exchange(at, &head).await.0[9..12].to_owned() };
    for host in [
        "localhost",
        "LOCALHOST:15000",
        "127.0.0.1:15000",
        "[::1]:1",
        "127.1.2.3",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}");
        assert_eq!(status(head).await, "200", "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1:15000",
        "",
        "[::2]",
    ] {
        let head = format!("GET /config_dump HTTP/1.1\r\nHost: {host}");
        assert_eq!(status(head).await, "403", "{host}");
    }
    let post = "POST /quitquitquit HTTP/1.1\r\nHost: localhost\r\nOrigin:";
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        assert_eq!(status(format!("{post} {origin}")).await, "403", "{origin}");
    }
    assert_eq!(status(format!("{post} http://localhost:8080")).await, "200");
}

#[tokio::test]
async fn quitting_takes_a_post() {
    let context = context();
    let at = served(Pages::Admin(context.clone())).await;
    let (head, _) = exchange(at, "GET /quitquitquit HTTP/1.1\r\nHost: localhost").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    assert!(!context.quit.is_cancelled());
    let (head, _) = exchange(at, "POST /quitquitquit HTTP/1.1\r\nHost: localhost").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(context.quit.is_cancelled());
}

#[tokio::test]
async fn the_first_page_lists_the_others_and_escapes() {
    let at = served(Pages::Admin(context())).await;
    let (_, body) = exchange(at, "GET / HTTP/1.1\r\nHost: localhost").await;
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("/config_dump") && text.contains("/logging") && text.contains("node-&lt;a&gt;"));
}

/// The filter is the process's, so this is one test.
#[tokio::test]
async fn the_log_filter_is_shown_changed_and_reset() {
    let at = served(Pages::Admin(context())).await;
    let filter: FilterHandle = log();
    let post = |query: &str| {
        let head = format!("POST /logging{query} HTTP/1.1\r\nHost: localhost");
        async move { exchange(at, &head).await }
    };
    let (_, shown) = exchange(at, "GET /logging HTTP/1.1\r\nHost: localhost").await;
    assert!(
        String::from_utf8(shown)
            .unwrap()
            .starts_with("current log filter: info\n")
    );
    for (query, expected) in [
        ("?level=access:debug,h2%3Ainfo", "info,access=debug,h2=info"),
        (
            "?level=ztunnel::outbound:trace,h2:off",
            "info,access=debug,ztunnel::outbound=trace,h2=off",
        ),
        ("?level=debug", "debug"),
        ("?reset&level=access=off", "info,access=off"),
        ("?reset", "info"),
    ] {
        let (head, _) = post(query).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{query}: {head}");
        assert_eq!(filter.current(), expected, "{query}");
    }
    let long = format!("?level=a:{}", "b".repeat(5000));
    for wrong in [
        "?level=loud",
        "?level=%ff",
        "?other=1",
        "?level=a:b:c",
        long.as_str(),
    ] {
        let (head, _) = post(wrong).await;
        assert!(head.starts_with("HTTP/1.1 400"), "{wrong}: {head}");
        assert_eq!(filter.current(), "info");
    }
    let (head, _) = exchange(at, "GET /logging?level=debug HTTP/1.1\r\nHost: localhost").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    assert_eq!(filter.current(), "info");
}

fn resource(name: &str, message: &impl Message) -> ResourceUpdate {
    ResourceUpdate {
        name: name.into(),
        aliases: Vec::new(),
        version: "1".into(),
        payload: Bytes::from(message.encode_to_vec()),
    }
}

async fn fill(context: &Context) {
    let mut handler = StateHandler::new(
        Writer::new(context.state.clone(), context.enforcement.clone()),
        None,
        Readiness::default(),
    );
    let key = "shop/web.shop.svc.cluster.local";
    let ports = |service_port, target_port| {
        vec![Port {
            service_port,
            target_port,
            ..Port::default()
        }]
    };
    let workload = Workload {
        uid: "Kubernetes//Pod/shop/web-1".into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        addresses: vec![Bytes::from_static(&[10, 0, 0, 5])],
        service_account: "web".into(),
        workload_name: "web".into(),
        canonical_name: "web".into(),
        node: "node-a".into(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        services: [(
            key.to_owned(),
            PortList {
                ports: ports(80, 8080),
            },
        )]
        .into(),
        ..Workload::default()
    };
    let service = Service {
        name: "web".into(),
        namespace: "shop".into(),
        hostname: "web.shop.svc.cluster.local".into(),
        addresses: vec![NetworkAddress {
            network: String::new(),
            address: Bytes::from_static(&[10, 96, 0, 1]),
            length: None,
        }],
        ports: ports(80, 8080),
        ..Service::default()
    };
    let address = |kind| Address { r#type: Some(kind) };
    let workload_name = workload.uid.clone();
    handler
        .apply(Update {
            type_url: ADDRESS_TYPE_URL.into(),
            resources: vec![
                resource(&workload_name, &address(Type::Workload(workload))),
                resource(key, &address(Type::Service(service))),
            ],
            ..Update::default()
        })
        .await;
    let policy = Authorization {
        name: "only-client".into(),
        namespace: "shop".into(),
        scope: Scope::Namespace.into(),
        action: Action::Allow.into(),
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match {
                    principals: vec![StringMatch {
                        match_type: Some(string_match::MatchType::Exact(
                            "cluster.local/ns/shop/sa/client".into(),
                        )),
                    }],
                    destination_ports: vec![8080],
                    ..Match::default()
                }],
            }],
        }],
        extensions: vec![proto::workload::Extension {
            name: proto::origin::ORIGIN_EXTENSION.into(),
            config: Some(prost_types::Any {
                type_url: proto::origin::ORIGIN_TYPE_URL.into(),
                value: proto::origin::Origin {
                    kind: "AuthorizationPolicy".into(),
                    namespace: "shop".into(),
                    name: "only-client".into(),
                    generation: 4,
                    ..Default::default()
                }
                .encode_to_vec(),
            }),
        }],
        ..Authorization::default()
    };
    handler
        .apply(Update {
            type_url: AUTHORIZATION_TYPE_URL.into(),
            resources: vec![resource("shop/only-client", &policy)],
            ..Update::default()
        })
        .await;
}

#[tokio::test]
async fn the_dump_has_the_shape_that_existing_tools_read() {
    let context = context();
    fill(&context).await;
    let pod = Arc::new(Pod {
        buffers: context.buffers.account(),
        id: PodId::from("uid-1"),
        name: "web-1".into(),
        identity: Identity::new("cluster.local", "shop", "web"),
        network: sys::Namespace::current().unwrap(),
    });
    context.pods.insert(pod.clone());
    let _held = context.identities.hold(&pod.identity);
    let subject = InboundSubject {
        peer: Some(Identity::new("cluster.local", "shop", "client")),
        source_ip: "10.0.0.9".parse().unwrap(),
        destination: "10.0.0.5:8080".parse().unwrap(),
    };
    let _open = context.connections.enter(
        pod,
        Subject::Inbound(subject),
        "10.0.0.9:4000".parse().unwrap(),
        "10.0.0.5:8080".parse().unwrap(),
    );
    let at = served(Pages::Admin(context)).await;
    let (head, body) = exchange(at, "GET /config_dump HTTP/1.1\r\nHost: localhost").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let dump: Value = serde_json::from_slice(&body).unwrap();

    let at = |pointer: &str| {
        dump.pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} in {dump:#}"))
    };
    for (pointer, expected) in [
        ("/version/version", env!("CARGO_PKG_VERSION")),
        ("/config/localNode", "node-<a>"),
        ("/workloads/0/uid", "Kubernetes//Pod/shop/web-1"),
        ("/workloads/0/workloadIps/0", "10.0.0.5"),
        ("/workloads/0/protocol", "HBONE"),
        ("/workloads/0/workloadType", "deployment"),
        ("/workloads/0/serviceAccount", "web"),
        ("/workloads/0/status", "Healthy"),
        ("/services/0/hostname", "web.shop.svc.cluster.local"),
        ("/services/0/vips/0", "/10.96.0.1"),
        (
            "/services/0/endpoints/Kubernetes:~1~1Pod~1shop~1web-1/workloadUid",
            "Kubernetes//Pod/shop/web-1",
        ),
        ("/policies/0/name", "only-client"),
        ("/policies/0/scope", "Namespace"),
        ("/policies/0/action", "Allow"),
        ("/policies/0/origin/kind", "AuthorizationPolicy"),
        ("/policies/0/origin/name", "only-client"),
        (
            "/policies/0/rules/0/0/0/principals/0/Exact",
            "cluster.local/ns/shop/sa/client",
        ),
        (
            "/certificates/0/identity",
            "spiffe://cluster.local/ns/shop/sa/web",
        ),
        ("/workloadState/uid-1/state", "Up"),
        ("/workloadState/uid-1/info/name", "web-1"),
        ("/workloadState/uid-1/connections/inbound/0/src", "10.0.0.9:4000"),
        ("/workloadState/uid-1/connections/inbound/0/protocol", "HBONE"),
        (
            "/workloadState/uid-1/connections/inbound/0/srcIdentity",
            "spiffe://cluster.local/ns/shop/sa/client",
        ),
    ] {
        let pointer = pointer.replace("Kubernetes:", "Kubernetes");
        assert_eq!(at(&pointer), expected, "{pointer}");
    }
    assert_eq!(at("/services/0/ports/80"), 8080);
    assert_eq!(at("/policies/0/rules/0/0/0/destinationPorts/0"), 8080);
    assert_eq!(at("/policies/0/origin/generation"), 4);
    assert_eq!(at("/certificates/0/certChain").as_array().map(Vec::len), Some(0));
    assert_eq!(dump.pointer("/workloads/0/waypoint"), None);
}

#[tokio::test]
async fn connections_are_listed() {
    let context = context();
    let at = served(Pages::Admin(context)).await;
    let (_, body) = exchange(at, "GET /connections HTTP/1.1\r\nHost: localhost").await;
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        Value::Array(Vec::new())
    );
}

#[test]
fn certificates_are_shown_with_their_lives() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = ca::Authority::load_or_create(directory.path(), now).unwrap();
    let identity = Identity::new("cluster.local", "shop", "web");
    let request = tls::KeyAndRequest::generate(&identity).unwrap();
    let life = Duration::from_secs(3600);
    let chain = authority
        .sign(&request.request_pem, &identity, life, now)
        .unwrap()
        .chain;
    let certificate = tls::WorkloadCertificate::from_pem(&chain, &request.key, &identity).unwrap();
    let serial = certificate.serial().to_owned();
    let state = crate::identities::IdentityState {
        certificate: Some(certificate),
        ..Default::default()
    };
    let revoked = crate::identities::IdentityState {
        is_revoked: true,
        ..state.clone()
    };
    assert_eq!(dump::certificate(&identity, &revoked)["state"], "Revoked");
    let shown = dump::certificate(&identity, &state);
    assert_eq!(shown["state"], "Available");
    let leaf = &shown["certChain"][0];
    assert_eq!(leaf["serialNumber"], serial);
    assert!(
        leaf["pem"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    let (from, to) = (
        leaf["validFrom"].as_str().unwrap(),
        leaf["expirationTime"].as_str().unwrap(),
    );
    assert!(
        from < to && to.ends_with('Z') && to.len() == "2026-01-01T00:00:00Z".len(),
        "{from} {to}"
    );
    assert!(!shown["rootCerts"].as_array().unwrap().is_empty());
    assert!(!shown.to_string().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn what_is_used_is_told_by_thread_and_pod() {
    let context = context();
    let pod = Pod {
        buffers: context.buffers.account(),
        id: PodId::from("uid-1"),
        name: "web".into(),
        identity: Identity::new("cluster.local", "shop", "web"),
        network: sys::Namespace::current().unwrap(),
    };
    context.pods.insert(Arc::new(pod));
    let at = served(Pages::Admin(context)).await;
    let (head, body) = exchange(at, "GET /debug/resources HTTP/1.1\r\nHost: localhost").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let page: Value = serde_json::from_slice(&body).unwrap();
    let positive = |pointer: &str| {
        page.pointer(pointer)
            .and_then(Value::as_u64)
            .is_some_and(|value| value > 0)
    };
    for pointer in [
        "/memory/residentBytes",
        "/memory/anonymousBytes",
        "/openFiles",
        "/runtime/aliveTasks",
        "/buffers/limitBytes",
    ] {
        assert!(positive(pointer), "{pointer} in {page:#}");
    }
    let threads = page["threads"].as_array().unwrap();
    assert!(
        threads
            .iter()
            .any(|thread| thread["cpuSeconds"].as_f64() > Some(0.0)),
        "{threads:?}"
    );
    assert_eq!(page["pods"][0]["pod"], "shop/web");
    assert_eq!(page["pods"][0]["buffersFull"], false);
}
