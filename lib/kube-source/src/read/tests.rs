use serde_json::json;

use super::*;

fn item(value: Value) -> Item {
    serde_json::from_value(value).unwrap()
}

#[test]
fn items_of_a_list_need_no_kind() {
    let account =
        json!({ "metadata": { "name": "a", "namespace": "demo", "uid": "1", "resourceVersion": "7" } });
    let seen = read(Kind::ServiceAccount, "v1", item(account)).unwrap();
    let object = seen.object.unwrap();
    assert_eq!((seen.uid.as_str(), seen.version), ("1", Some(7)));
    assert_eq!(object.key(), seen.key);
    assert_eq!(object.metadata.resource_version, 7);
}

#[test]
fn a_version_that_is_no_number_is_only_not_compared() {
    let account = json!({ "metadata": { "name": "a", "namespace": "demo", "resourceVersion": "abc" } });
    let seen = read(Kind::ServiceAccount, "v1", item(account)).unwrap();
    assert_eq!(seen.version, None);
    assert!(seen.object.is_ok());
}

#[test]
fn what_is_no_object_or_has_no_name_spoils_nothing() {
    for value in [
        json!(null),
        json!([1]),
        json!({}),
        json!({ "metadata": { "name": 7, "namespace": "demo" } }),
        json!({ "metadata": { "name": "", "namespace": "demo" } }),
        json!({ "metadata": { "name": "a/b", "namespace": "demo" } }),
        json!({ "metadata": { "name": "..", "namespace": "demo" } }),
        json!({ "metadata": { "name": "a", "namespace": "demo%2f" } }),
        json!({ "metadata": { "name": "a" } }),
    ] {
        assert!(read(Kind::Pod, "v1", item(value)).is_none());
    }
}

#[test]
fn a_word_that_a_newer_server_knows_costs_only_itself() {
    let service = |spec: Value| {
        let mut whole = json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }] });
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let service = json!({ "metadata": { "name": "a", "namespace": "demo" }, "spec": whole });
        read(Kind::Service, "v1", item(service)).unwrap().object
    };
    let read = service(json!({ "trafficDistribution": "PreferTheMoon", "ipFamilies": ["IPv4", "IPv7"] }));
    let read = read.unwrap();
    let read = read.as_service().unwrap();
    assert_eq!(read.traffic_distribution, None);
    assert_eq!(read.cluster_ips.len(), 1);
    let problem =
        service(json!({ "trafficDistribution": "PreferTheMoon", "clusterIP": "moon" })).unwrap_err();
    assert!(problem.contains("spec.clusterIP"), "{problem}");
}

#[test]
fn a_policy_that_cannot_be_read_is_still_one() {
    let policy = json!({
        "metadata": { "name": "p", "namespace": "demo" },
        "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "ports": ["many"] } }] }], "new": 1 },
    });
    let seen = read(Kind::AuthorizationPolicy, "security.istio.io/v1", item(policy)).unwrap();
    assert_eq!(seen.object.unwrap().kind(), Kind::AuthorizationPolicy);
}

#[test]
fn only_who_has_no_conditions_that_are_read_loses_its_text() {
    let service = json!({
        "metadata": { "name": "a", "namespace": "demo" },
        "spec": { "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }] },
        "status": { "conditions": [{ "type": "istio.io/WaypointBound", "status": "True" }] },
    });
    let service = read(Kind::Service, "v1", item(service)).unwrap().object.unwrap();
    let conditions = &service.status().unwrap()["conditions"];
    assert_eq!(conditions[0]["type"], "istio.io/WaypointBound");

    let pod = |label: &str, version: &str| {
        let pod = json!({
            "metadata": { "name": "a", "namespace": "demo", "labels": { "a": label }, "resourceVersion": version },
            "spec": { "containers": [{ "name": "c" }] },
        });
        read(Kind::Pod, "v1", item(pod)).unwrap().object.unwrap()
    };
    assert!(pod("b", "1").raw().is_null());
    assert!(same(&pod("b", "1"), &pod("b", "2")) && !same(&pod("b", "1"), &pod("c", "1")));
}

/// What API servers store is read, also where they do not check what we check in files.
#[test]
fn what_an_api_server_stores_is_read() {
    let stored = |kind: Kind, value: Value| {
        let version = kind.api_versions()[0];
        let Value::Object(fields) = value else {
            panic!("no object")
        };
        let (_, object) = object_of(kind, version, fields).unwrap();
        object.unwrap_or_else(|problem| panic!("{problem}"))
    };
    // Validated for the type ExternalName alone.
    for address in ["10.9.0.1", "None"] {
        let spec = json!({ "clusterIP": address, "externalName": "db.example", "ports": [{ "port": 80 }] });
        let read = stored(
            Kind::Service,
            json!({ "metadata": { "name": "a", "namespace": "demo" }, "spec": spec }),
        );
        let service = read.as_service().unwrap();
        assert_eq!(service.cluster_ips.len(), usize::from(address != "None"));
        assert_eq!(service.external_name, "");
    }
    // Newer servers take every DNS label.
    let spec = json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }] });
    let read = stored(
        Kind::Service,
        json!({ "metadata": { "name": "0a", "namespace": "demo" }, "spec": spec }),
    );
    assert_eq!(read.metadata.name, "0a");
    // The documentation says 100; the server takes 20 000.
    let ports: Vec<Value> = (1..=20_000)
        .map(|port| json!({ "name": format!("p{port}"), "port": port, "protocol": "TCP" }))
        .collect();
    let read = stored(
        Kind::EndpointSlice,
        json!({
            "metadata": { "name": "a-1", "namespace": "demo", "labels": { "kubernetes.io/service-name": "a" } },
            "addressType": "IPv4", "endpoints": [{ "addresses": ["10.4.0.1"] }], "ports": ports,
        }),
    );
    let objects::Spec::EndpointSlice(slice) = &read.spec else {
        panic!("{read:?}")
    };
    assert_eq!(slice.ports.len(), 20_000);
}

/// Nobody else may stand for them, so they have to be known.
#[test]
fn addresses_of_nodes_and_load_balancers_are_kept() {
    let node = json!({ "metadata": { "name": "node-a" }, "spec": { "providerID": "x" }, "status": {
        "addresses": [{ "type": "InternalIP", "address": "10.0.0.5" }, { "type": "Hostname", "address": "node-a" }],
        "capacity": { "cpu": "4" }, "nodeInfo": { "kernelVersion": "6.6" } } });
    let node = read(Kind::Node, "v1", item(node)).unwrap().object.unwrap();
    let objects::Spec::Node(node) = &node.spec else {
        panic!("{node:?}")
    };
    let addresses = node.addresses.iter().map(|one| one.address.as_str());
    assert_eq!(addresses.collect::<Vec<_>>(), ["10.0.0.5", "node-a"]);
    let service = json!({ "metadata": { "name": "a", "namespace": "demo" },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }],
            "externalIPs": ["203.0.113.1"] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.2", "ipMode": "VIP" }, { "hostname": "lb" },
            { "ip": 7 }] } } });
    let service = read(Kind::Service, "v1", item(service)).unwrap().object.unwrap();
    let service = service.as_service().unwrap();
    let words = |addresses: &[std::net::IpAddr]| {
        let words = addresses.iter().map(ToString::to_string);
        words.collect::<Vec<_>>()
    };
    assert_eq!(words(&service.load_balancer_ips), ["203.0.113.2"]);
    assert_eq!(words(&service.external_ips), ["203.0.113.1"]);
}
