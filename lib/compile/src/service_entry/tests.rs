//! Field by field: what of a ServiceEntry is on the wire.

use objects::{Kind, ObjectKey};
use proto::workload::load_balancing::{HealthPolicy, Mode};
use proto::workload::{AppProtocol, Service, Workload, address::Type};

use crate::testing::{compiled, pod, puts, service, workload};
use crate::{Compiler, Settings, Visibility};

fn entry(namespace: &str, name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: {namespace}, name: {name}\
         {metadata}}}\nspec: {spec}\n"
    )
}

/// The services by name, as far as a test looks at them.
fn services(compiler: &Compiler) -> Vec<(&str, &Service)> {
    let addresses = compiler.addresses().iter();
    addresses
        .filter_map(|(name, address)| match &address.r#type {
            Some(Type::Service(service)) => Some((name.as_str(), service)),
            _ => None,
        })
        .collect()
}

fn workloads(compiler: &Compiler) -> Vec<&Workload> {
    let addresses = compiler.addresses().values();
    addresses
        .filter_map(|address| match &address.r#type {
            Some(Type::Workload(workload)) => Some(workload),
            _ => None,
        })
        .collect()
}

#[test]
fn each_host_is_a_service_with_the_ports_and_addresses_that_were_given() {
    let compiler = compiled(&entry(
        "demo",
        "db",
        "",
        "{hosts: [a.example, b.example], addresses: [10.8.1.7, 10.8.9.9/16, \"2001:db8::1/64\"], resolution: STATIC, \
         subjectAltNames: [\"spiffe://cluster.local/ns/db/sa/db\"], ports: [{number: 80, name: web, protocol: http, \
         targetPort: 8080}, {number: 443, name: tls, protocol: TLS}, {number: 53, name: dns, protocol: UDP}, {number: \
         1, name: plain}]}",
    ));
    let found = services(&compiler);
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["demo/a.example", "demo/b.example"]);
    for (_, service) in found {
        assert_eq!(
            (service.name.as_str(), service.namespace.as_str()),
            ("db", "demo")
        );
        let addresses = service.addresses.iter();
        let addresses: Vec<_> = addresses.map(|one| (one.address.to_vec(), one.length)).collect();
        let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        assert_eq!(
            addresses,
            [
                (vec![10, 8, 1, 7], None),
                (vec![10, 8, 0, 0], Some(16)),
                (v6, Some(64))
            ]
        );
        let ports = service.ports.iter();
        let ports: Vec<_> = ports
            .map(|port| (port.service_port, port.target_port, port.app_protocol()))
            .collect();
        assert_eq!(
            ports,
            [
                (80, 8080, AppProtocol::Http11),
                (443, 443, AppProtocol::Tls),
                (53, 53, AppProtocol::Unknown),
                (1, 1, AppProtocol::Unknown),
            ]
        );
        assert_eq!(service.subject_alt_names, ["spiffe://cluster.local/ns/db/sa/db"]);
        assert!(service.canonical && service.load_balancing.is_none());
    }
}

#[test]
fn without_resolution_connections_go_where_they_were_addressed() {
    let compiler = compiled(&entry(
        "demo",
        "any",
        "",
        "{hosts: [\"*.example\"], addresses: [10.8.0.0/16]}",
    ));
    let balancing = service(&compiler, "demo/*.example")
        .load_balancing
        .as_ref()
        .expect("it says how");
    assert_eq!(
        (balancing.mode(), balancing.health_policy()),
        (Mode::Passthrough, HealthPolicy::AllowAll)
    );
    assert!(workloads(&compiler).is_empty());
}

#[test]
fn endpoints_that_stand_in_it_are_workloads_of_every_host() {
    let compiler = compiled(&entry(
        "demo",
        "db",
        ", labels: {app: db}",
        "{hosts: [a.example, b.example], resolution: STATIC, ports: [{number: 80, name: web, targetPort: 8080}, {number: \
         81, name: log}], endpoints: [{address: 10.7.0.1, ports: {web: 9000}, weight: 3, locality: r/z/s, \
         serviceAccount: db, labels: {version: v2, networking.istio.io/tunnel: http}}, {address: 10.7.0.2, network: \
         far}, {address: 10.7.0.1}, {address: \"unix:///run/a.sock\"}]}",
    ));
    assert_eq!(
        workloads(&compiler).len(),
        2,
        "a socket is none, and what is listed twice counts once"
    );
    let prefix = "Kubernetes/networking.istio.io/ServiceEntry/demo/db/";
    let one = workload(&compiler, &format!("{prefix}10.7.0.1"));
    assert_eq!(
        one.services.keys().collect::<Vec<_>>(),
        ["demo/a.example", "demo/b.example"]
    );
    for ports in one.services.values() {
        let ports = ports.ports.iter();
        let ports: Vec<_> = ports.map(|port| (port.service_port, port.target_port)).collect();
        assert_eq!(ports, [(80, 9000), (81, 81)]);
    }
    assert_eq!((one.capacity, one.service_account.as_str()), (Some(3), "db"));
    assert_eq!(
        (
            one.canonical_name.as_str(),
            one.canonical_revision.as_str(),
            one.workload_name.as_str()
        ),
        ("db", "v2", "db")
    );
    let place = one.locality.as_ref().expect("a locality");
    assert_eq!([&place.region, &place.zone, &place.subzone], ["r", "z", "s"]);
    assert!(one.native_tunnel && one.tunnel_protocol == 1);
    let two = workload(&compiler, &format!("{prefix}10.7.0.2"));
    assert_eq!((two.network.as_str(), two.capacity), ("far", None));
}

#[test]
fn hosts_that_are_resolved_are_workloads_without_addresses() {
    for resolution in ["DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] {
        let spec =
            format!("{{hosts: [a.example], resolution: {resolution}, ports: [{{number: 80, name: web}}]}}");
        let compiler = compiled(&entry("demo", "db", "", &spec));
        let made = workload(
            &compiler,
            "Kubernetes/networking.istio.io/ServiceEntry/demo/db/a.example",
        );
        assert_eq!(
            (made.hostname.as_str(), made.addresses.len()),
            ("a.example", 0),
            "{resolution}"
        );
    }
    // Which name of a pattern is meant nobody can tell but a waypoint.
    let compiler = compiled(&entry(
        "demo",
        "db",
        "",
        "{hosts: [\"*.example\"], resolution: DYNAMIC_DNS}",
    ));
    assert!(workloads(&compiler).is_empty());
    let key = ObjectKey::new(Kind::ServiceEntry, "demo", "db");
    let told: Vec<_> = compiler.conditions()[&key]
        .iter()
        .map(|one| (one.kind, one.status))
        .collect();
    assert_eq!(told, [("istio.io/WaypointMissing", true)]);
}

#[test]
fn it_selects_pods_and_workload_entries_of_its_namespace() {
    let vm = |namespace: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{namespace: {namespace}, name: vm}}\n\
             spec: {{address: 10.6.0.1, labels: {{app: db}}, ports: {{web: 7000}}}}\n"
        )
    };
    let ports = "[{number: 80, name: web, targetPort: 8080}, {number: 81, name: log}]";
    let spec = format!(
        "{{hosts: [a.example], resolution: STATIC, workloadSelector: {{labels: {{app: db}}}}, ports: {ports}}}"
    );
    let with_port = pod("demo", "named", "{app: db}", "").replace(
        "{name: a}",
        "{name: a, ports: [{name: web, containerPort: 9090}]}",
    );
    let text = entry("demo", "db", "", &spec)
        + &entry(
            "demo",
            "empty",
            "",
            "{hosts: [b.example], resolution: STATIC, workloadSelector: {labels: {}}}",
        )
        + &with_port
        + &pod("demo", "plain", "{app: db}", "")
        + &pod("other", "plain", "{app: db}", "")
        + &vm("demo")
        + &vm("other");
    let compiler = compiled(&text);
    let ports_of = |uid: &str| {
        let services = &workload(&compiler, uid).services;
        let list = services.iter().map(|(key, list)| {
            let ports = list
                .ports
                .iter()
                .map(|port| (port.service_port, port.target_port));
            (key.clone(), ports.collect::<Vec<_>>())
        });
        list.collect::<Vec<_>>()
    };
    let key = "demo/a.example".to_owned();
    assert_eq!(
        ports_of("Kubernetes//Pod/demo/named"),
        [(key.clone(), vec![(80, 9090), (81, 81)])]
    );
    assert_eq!(
        ports_of("Kubernetes//Pod/demo/plain"),
        [(key.clone(), vec![(80, 8080), (81, 81)])]
    );
    assert_eq!(ports_of("Kubernetes//Pod/other/plain"), []);
    let vm = "Kubernetes/networking.istio.io/WorkloadEntry";
    assert_eq!(
        ports_of(&format!("{vm}/demo/vm")),
        [(key, vec![(80, 7000), (81, 81)])]
    );
    assert_eq!(ports_of(&format!("{vm}/other/vm")), []);
}

#[test]
fn export_to_says_who_sees_it() {
    let cases = [
        ("[]", Visibility::Public, Some(0), None),
        ("[]", Visibility::Namespace, Some(1), None),
        ("[]", Visibility::None, None, None),
        ("[\"*\"]", Visibility::None, Some(0), Some(true)),
        ("[\".\"]", Visibility::Public, Some(1), Some(true)),
        ("[demo]", Visibility::Public, Some(1), Some(true)),
        ("[\"~\"]", Visibility::Public, None, Some(true)),
        ("[\".\", \"*\"]", Visibility::Public, Some(0), Some(true)),
        // Node proxies cannot be told of other namespaces, and who was named must not lose it.
        ("[\".\", other]", Visibility::Public, Some(0), Some(false)),
    ];
    for (export, default, expected, applied) in cases {
        let settings = Settings {
            service_entry_visibility: default,
            ..Settings::default()
        };
        let mut compiler = Compiler::new(settings);
        let spec = format!("{{hosts: [a.example], resolution: DNS, exportTo: {export}}}");
        compiler.apply(puts(&entry("demo", "db", "", &spec)));
        let seen = services(&compiler).first().map(|(_, service)| service.visibility);
        assert_eq!(seen, expected, "{export} {default:?}");
        assert_eq!(
            workloads(&compiler).len(),
            usize::from(expected.is_some()),
            "{export} {default:?}"
        );
        let key = ObjectKey::new(Kind::ServiceEntry, "demo", "db");
        let told = compiler.conditions()[&key].first().map(|one| one.status);
        assert_eq!(told, applied, "{export} {default:?}");
    }
}

/// Of the ServiceEntries of a namespace the oldest has the host, and a Service has it before all; of those of several
/// namespaces the oldest that all may see speaks for it.
#[test]
fn one_of_several_has_the_host_and_one_speaks_for_it() {
    let at = |namespace: &str, name: &str, second: u8, export: &str| {
        let metadata = format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\"");
        let spec = format!("{{hosts: [a.example], resolution: DNS, exportTo: [{export}]}}");
        entry(namespace, name, &metadata, &spec)
    };
    let text = at("demo", "young", 5, "\"*\"")
        + &at("demo", "old", 3, "\"*\"")
        + &at("first", "private", 1, "\".\"")
        + &at("second", "public", 2, "\"*\"");
    let mut compiler = compiled(&text);
    let view = |compiler: &Compiler| -> Vec<(String, String, bool)> {
        let all = services(compiler).into_iter();
        all.map(|(key, service)| (key.to_owned(), service.name.clone(), service.canonical))
            .collect()
    };
    let line = |key: &str, name: &str, canonical| (key.to_owned(), name.to_owned(), canonical);
    assert_eq!(
        view(&compiler),
        [
            line("demo/a.example", "old", false),
            line("first/a.example", "private", false),
            line("second/a.example", "public", true),
        ]
    );
    let gone = ObjectKey::new(Kind::ServiceEntry, "second", "public");
    compiler.apply([(gone, None)]);
    assert_eq!(view(&compiler)[0], line("demo/a.example", "old", true));

    let host = "web.demo.svc.cluster.local";
    let spec = format!("{{hosts: [{host}], resolution: DNS, ports: [{{number: 1, name: a}}]}}");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: demo, name: web}\nspec: {ports: [{port: 80}]}\n";
    let text = entry("demo", "shadow", "", &spec) + &entry("other", "copy", "", &spec) + service;
    let mut compiler = compiled(&text);
    assert_eq!(
        view(&compiler),
        [
            line(&format!("demo/{host}"), "web", true),
            line(&format!("other/{host}"), "copy", false),
        ]
    );
    compiler.apply([(ObjectKey::new(Kind::Service, "demo", "web"), None)]);
    assert_eq!(view(&compiler)[0].1, "shadow");
    assert_eq!(
        view(&compiler)
            .iter()
            .filter(|(_, _, canonical)| *canonical)
            .count(),
        1
    );
}

#[test]
fn who_is_seen_by_one_namespace_only_is_behind_no_waypoint_of_another() {
    let waypoint = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: infra, name: w}\n\
                    spec: {gatewayClassName: istio-waypoint, listeners: [{name: m, port: 15008, protocol: HBONE, \
                    allowedRoutes: {namespaces: {from: All}}}]}\nstatus: {addresses: [{value: 10.9.0.1}]}\n";
    let labels = ", labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: infra}";
    for (export, reason) in [
        ("\"*\"", "WaypointAccepted"),
        ("\".\"", "CrossNamespaceWaypointForbidden"),
    ] {
        let spec = format!("{{hosts: [a.example], resolution: DNS, exportTo: [{export}]}}");
        let compiler = compiled(&(entry("demo", "db", labels, &spec) + waypoint));
        let key = ObjectKey::new(Kind::ServiceEntry, "demo", "db");
        let told = &compiler.conditions()[&key];
        assert_eq!((told[0].kind, told[0].reason), ("istio.io/WaypointBound", reason));
        let made = service(&compiler, "demo/a.example");
        assert_eq!(made.waypoint.is_some(), reason == "WaypointAccepted");
    }
}

/// Names of Services belong to their namespaces, also while there is no such Service.
#[test]
fn a_name_of_another_namespace_is_for_the_own_one_alone() {
    let cases = [
        ("a.example", false),
        ("web.demo.svc.cluster.local", false),
        ("web.demo.svc", false),
        ("one.web.demo.svc.cluster.local", false),
        ("*.demo.svc.cluster.local", false),
        ("*.example", false),
        ("svc.cluster.local", false),
        ("web.other.svc.cluster.local", true),
        ("web.other.svc", true),
        ("one.web.other.svc.cluster.local", true),
        ("*.other.svc.cluster.local", true),
        ("*.svc.cluster.local", true),
        ("*.cluster.local", true),
        ("*.local", true),
    ];
    for (host, is_foreign) in cases {
        let spec = format!("{{hosts: [\"{host}\"], resolution: STATIC, endpoints: [{{address: 10.6.0.1}}]}}");
        let compiler = compiled(&entry("demo", "db", "", &spec));
        let made = service(&compiler, &format!("demo/{host}"));
        assert_eq!(
            (made.visibility, made.canonical),
            (i32::from(is_foreign), !is_foreign),
            "{host}"
        );
        let key = ObjectKey::new(Kind::ServiceEntry, "demo", "db");
        let told: Vec<_> = compiler.conditions()[&key]
            .iter()
            .map(|one| (one.kind, one.status, one.reason))
            .collect();
        let expected = [("ztunnel.dev/HostsAccepted", false, "Conflicted")];
        assert_eq!(told, &expected[..usize::from(is_foreign)], "{host}");
    }
    // Neither does it speak for the name once the Service is there, nor does an older one keep the owner's from it.
    let at = |namespace: &str, second: u8| {
        let metadata = format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\"");
        let spec =
            "{hosts: [web.shop.svc.cluster.local], resolution: STATIC, endpoints: [{address: 10.6.0.1}]}";
        entry(namespace, "db", &metadata, spec)
    };
    let compiler = compiled(&(at("demo", 1) + &at("shop", 2)));
    let canonical =
        |namespace: &str| service(&compiler, &format!("{namespace}/web.shop.svc.cluster.local")).canonical;
    assert_eq!((canonical("demo"), canonical("shop")), (false, true));
}

/// Of several entries of one host the oldest is the service, and so says the ports of whom it selects.
#[test]
fn of_entries_of_one_host_the_oldest_says_the_ports() {
    let at = |name: &str, second: u8, port: u16| {
        let metadata = format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\"");
        let spec = format!(
            "{{hosts: [a.example], resolution: STATIC, workloadSelector: {{labels: {{app: db}}}}, ports: [{{number: \
             {port}, name: web}}]}}"
        );
        entry("demo", name, &metadata, &spec)
    };
    let vm = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {namespace: demo, name: vm}\nspec: \
              {address: 10.6.0.1, labels: {app: db}}\n";
    let check = |compiler: &Compiler, port: u16| {
        assert_eq!(
            service(compiler, "demo/a.example").ports[0].service_port,
            u32::from(port)
        );
        for uid in [
            "Kubernetes//Pod/demo/db",
            "Kubernetes/networking.istio.io/WorkloadEntry/demo/vm",
        ] {
            let list = &workload(compiler, uid).services["demo/a.example"];
            let ports: Vec<_> = list.ports.iter().map(|port| port.service_port).collect();
            assert_eq!(ports, [u32::from(port)], "{uid}");
        }
    };
    let pods = pod("demo", "db", "{app: db}", "") + vm;
    check(&compiled(&(at("z", 1, 443) + &at("a", 2, 8443) + &pods)), 443);
    let mut compiler = compiled(&(at("a", 1, 443) + &at("z", 2, 8443) + &pods));
    check(&compiler, 443);
    // The oldest was deleted and written again.
    compiler.apply(puts(&at("a", 3, 443)));
    check(&compiler, 8443);
}
