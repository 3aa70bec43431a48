//! What is accepted of ServiceEntries, WorkloadEntries, WorkloadGroups, Gateways and GatewayClasses, and what is not.

use crate::{AllowedNamespaces, EntryAddress, GatewayAddress, Object, Resolution, Spec, parse, warnings};

fn text(kind: &str, spec: &str) -> String {
    let version = match kind {
        "Gateway" | "GatewayClass" => "gateway.networking.k8s.io/v1",
        _ => "networking.istio.io/v1",
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: e}}\nspec: {spec}\n")
}

fn read(text: &str) -> Object {
    let mut objects = parse("m.yaml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

#[test]
fn every_field_of_the_api_is_known() {
    let object = read(
        &(text(
            "ServiceEntry",
            "{hosts: [A.example, \"*.b.example\"], addresses: [10.0.0.1, \"2001:db8::/32\"], location: MESH_INTERNAL, \
             resolution: STATIC, exportTo: [., other], subjectAltNames: [a], ports: [{number: 80, name: http, protocol: \
             http, targetPort: 8080}, {number: 81, name: HTTP-2, targetPort: 0}], endpoints: [{address: 10.0.0.2, ports: \
             {http: 1}, labels: {a: b}, network: far, locality: r/z/s, weight: 2, serviceAccount: db}, {network: far}]}",
        ) + "status: {addresses: [{host: a.example, value: 240.240.0.1}, {host: b, value: nonsense}, 7], conditions: [{x: y}]}\n"),
    );
    let entry = object.as_service_entry().expect("a ServiceEntry");
    assert_eq!(entry.hosts, ["a.example", "*.b.example"]);
    assert_eq!(
        (entry.ports[0].protocol.as_str(), entry.ports[0].target_port),
        ("HTTP", Some(8080))
    );
    assert_eq!(
        (entry.ports[1].protocol.as_str(), entry.ports[1].target_port),
        ("", None)
    );
    assert_eq!(entry.resolution, Resolution::Static);
    assert_eq!(entry.endpoints[0].locality_parts(), ["r", "z", "s"]);
    assert_eq!(entry.endpoints[1].address, None);
    // What a controller wrote wrongly is no reason to refuse the rest.
    assert_eq!(entry.allocated.len(), 1);
    // What was there stays when a manifest without a status is applied over it.
    let again = read(&text("ServiceEntry", "{hosts: [a.example], resolution: DNS}"));
    let merged = again.merged_over(&object);
    assert_eq!(
        merged.as_service_entry().map(|entry| entry.allocated.len()),
        Some(1)
    );
    assert_eq!(read(&merged.to_yaml()), merged);
}

#[test]
fn what_contradicts_itself_is_refused_with_its_field() {
    let cases = [
        ("ServiceEntry", "{resolution: DNS}", "hosts is missing"),
        (
            "ServiceEntry",
            "{hosts: []}",
            "spec.hosts: must name at least one host",
        ),
        ("ServiceEntry", "{hosts: [\"*\"]}", "would stand for every name"),
        (
            "ServiceEntry",
            "{hosts: [a.*.b]}",
            "only the first label may be '*'",
        ),
        ("ServiceEntry", "{hosts: [a, A]}", "is named twice"),
        ("ServiceEntry", "{hosts: [a], resolution: Dns}", "spec.resolution"),
        (
            "ServiceEntry",
            "{hosts: [a], adresses: []}",
            "did you mean addresses?",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], addresses: [10.0.0.300]}",
            "spec.addresses[0]",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], addresses: [10.0.0.0/8], resolution: DNS}",
            "only single addresses",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], resolution: STATIC, endpoints: [{address: 10.0.0.1}], workloadSelector: {labels: {a: b}}}",
            "give one of them",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], endpoints: [{address: 10.0.0.1}]}",
            "are not used with resolution NONE",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], resolution: STATIC, endpoints: [{address: b.example}]}",
            "every endpoint needs an IP address",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: b.b}]}",
            "may be only one",
        ),
        (
            "ServiceEntry",
            "{hosts: [\"*.a\"], resolution: DNS}",
            "cannot be resolved",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], resolution: STATIC, endpoints: [{weight: 1}]}",
            "has no address",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
            "already a port 80",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], ports: [{number: 80, name: a}, {number: 81, name: a}]}",
            "already a port named",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], ports: [{number: 0, name: a}]}",
            "spec.ports[0].number",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], ports: [{number: 1, name: a, protocol: SPDY}]}",
            "is no protocol",
        ),
        (
            "ServiceEntry",
            "{hosts: [a], exportTo: [\"?\"]}",
            "is no namespace",
        ),
        ("WorkloadEntry", "{labels: {a: b}}", "address is missing"),
        ("WorkloadEntry", "{address: \"unix://run\"}", "no absolute path"),
        (
            "WorkloadEntry",
            "{address: \"unix:///run/a\", ports: {a: 1}}",
            "has no ports",
        ),
        (
            "WorkloadEntry",
            "{address: 10.0.0.1, ports: {a: 70000}}",
            "between 1 and 65535",
        ),
        (
            "WorkloadEntry",
            "{address: \"a b\"}",
            "no IP address, no DNS name",
        ),
        ("WorkloadGroup", "{}", "template is missing"),
        (
            "WorkloadGroup",
            "{template: {address: 10.0.0.1}}",
            "must give no address",
        ),
        ("GatewayClass", "{}", "controllerName is missing"),
        (
            "Gateway",
            "{gatewayClassName: a, listeners: [{name: a, port: 1, protocol: HBONE, allowedRoutes: {namespaces: {from: \
             Some}}}]}",
            "use Same, All, Selector or None",
        ),
        (
            "Gateway",
            "{gatewayClassName: a, listeners: [{name: a, port: 1, protocol: HBONE, allowedRoutes: {namespaces: {from: \
             Selector}}}]}",
            "needs a selector",
        ),
    ];
    for (kind, spec, problem) in cases {
        let errors = parse("m.yaml", &text(kind, spec)).expect_err(spec).to_string();
        assert!(errors.contains(problem), "{spec}: {errors}");
        assert!(errors.contains("m.yaml:"), "{errors}");
    }
}

#[test]
fn addresses_of_entries_are_numbers_names_or_sockets() {
    let address = |written: &str| {
        let object = read(&text("WorkloadEntry", &format!("{{address: \"{written}\"}}")));
        object.as_workload_entry().and_then(|entry| entry.address.clone())
    };
    assert_eq!(address("10.0.0.1"), Some(EntryAddress::Ip([10, 0, 0, 1].into())));
    assert_eq!(
        address("VM.example"),
        Some(EntryAddress::Name("vm.example".to_owned()))
    );
    assert_eq!(
        address("unix:///run/a"),
        Some(EntryAddress::Socket("/run/a".to_owned()))
    );
}

#[test]
fn of_a_gateway_its_addresses_and_whom_it_admits_are_read() {
    let object = read(
        &(text(
            "Gateway",
            "{gatewayClassName: istio-waypoint, addresses: [{value: 10.0.0.9}], listeners: [{name: mesh, port: 15008, \
             protocol: HBONE, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}, {name: \
             other, port: 80, protocol: HTTP}]}",
        ) + "status: {addresses: [{type: Hostname, value: w.demo.svc}, {type: other.example/x, value: y}, {value: 10.0.0.1}]}\n"),
    );
    let Spec::Gateway(gateway) = &object.spec else {
        panic!()
    };
    assert_eq!(
        gateway.addresses,
        [
            GatewayAddress::Hostname("w.demo.svc".to_owned()),
            GatewayAddress::Ip([10, 0, 0, 1].into())
        ]
    );
    assert_eq!(
        gateway.wanted_addresses,
        [GatewayAddress::Ip([10, 0, 0, 9].into())]
    );
    assert!(matches!(
        gateway.listeners[0].allowed,
        AllowedNamespaces::Selector(_)
    ));
    assert_eq!(gateway.listeners[1].allowed, AllowedNamespaces::Same);
    assert_eq!(
        gateway.hbone_listener(Some(15008)).map(|one| one.name.as_str()),
        Some("mesh")
    );
    assert_eq!(gateway.hbone_listener(Some(80)), None);
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let cases = [
        (
            "{hosts: [\"*.a\"], resolution: DYNAMIC_DNS}",
            Some("need a waypoint"),
        ),
        ("{hosts: [a]}", Some("cannot be told apart")),
        ("{hosts: [a], addresses: [10.0.0.1]}", None),
        (
            "{hosts: [a], resolution: STATIC, endpoints: [{address: \"unix:///run/a\"}]}",
            Some("reach no Unix sockets"),
        ),
        ("{hosts: [a], resolution: DNS}", None),
    ];
    for (spec, expected) in cases {
        let found = warnings(&read(&text("ServiceEntry", spec)));
        match expected {
            Some(sentence) => assert!(
                found.len() == 1 && found[0].message.contains(sentence),
                "{spec}: {found:?}"
            ),
            None => assert!(found.is_empty(), "{spec}: {found:?}"),
        }
    }
}

#[test]
fn the_example_is_good() {
    let text = include_str!("../../../../examples/entries/database.yaml");
    let objects = parse("database.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(objects.len(), 2);
    assert!(objects.iter().all(|object| warnings(object).is_empty()));
}
