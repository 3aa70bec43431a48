use std::sync::Arc;

use objects::{Kind, Object, ObjectKey};
use serde_json::{Value, json};

use super::*;

/// A store in memory: runs the controllers until nothing is left to write.
struct World {
    objects: Vec<Arc<Object>>,
    counter: u64,
    ipv6: bool,
}

impl World {
    fn new(values: Vec<Value>) -> World {
        let mut world = World {
            objects: Vec::new(),
            counter: 0,
            ipv6: false,
        };
        for name in ["node-a", "node-b"] {
            world.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
                "name": name, "labels": { "kubernetes.io/hostname": name },
            } }));
        }
        world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }));
        values.into_iter().for_each(|value| world.put(value));
        world
    }

    fn put(&mut self, mut value: Value) {
        self.counter += 1;
        let key = Object::from_value(value.clone()).unwrap().key();
        let old = self.objects.iter().position(|object| object.key() == key);
        let uid = match old {
            Some(at) => self.objects.remove(at).metadata.uid.clone(),
            None => format!("uid-{}", self.counter),
        };
        set(&mut value, &["metadata", "uid"], json!(uid));
        self.objects.push(Arc::new(Object::from_value(value).unwrap()));
        self.objects.sort_by_key(|object| object.key());
    }

    fn delete(&mut self, key: &ObjectKey) {
        self.objects.retain(|object| object.key() != *key);
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let mut random = self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut entropy = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random
            };
            let mut around = Surroundings {
                entropy: &mut entropy,
                now: "2026-01-01T00:00:00Z".to_owned(),
                ipv6: self.ipv6,
            };
            let writes = reconcile(&self.objects, &mut around);
            if writes.is_empty() {
                return;
            }
            for write in writes {
                match write {
                    Write::Put(value) => self.put(value),
                    Write::Delete(key) => self.delete(&key),
                }
            }
        }
        panic!("the controllers do not come to rest");
    }

    fn of(&self, kind: Kind) -> Vec<Arc<Object>> {
        self.objects
            .iter()
            .filter(|object| object.kind() == kind)
            .cloned()
            .collect()
    }

    fn field(&self, kind: Kind, name: &str, path: &str) -> Value {
        let object = self
            .of(kind)
            .into_iter()
            .find(|object| object.metadata.name == name);
        object
            .and_then(|object| object.raw().pointer(path).cloned())
            .unwrap_or(Value::Null)
    }

    /// What the pods' own life does: an address, and Ready.
    fn run_pods(&mut self, ready: bool) {
        for (index, pod) in (10..).zip(self.of(Kind::Pod)) {
            if pod
                .as_pod()
                .is_some_and(|pod| !pod.status.pod_ips.is_empty() && pod.is_ready() == ready)
            {
                continue;
            }
            let address = format!("10.244.1.{index}");
            let mut raw = pod.raw().clone();
            let word = if ready { "True" } else { "False" };
            let status = json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
                "conditions": [{ "type": "Ready", "status": word }] });
            set(&mut raw, &["status"], status);
            self.put(raw);
        }
    }

    /// Pods that were told to end have ended.
    fn end_pods(&mut self) {
        self.objects
            .retain(|object| object.kind() != Kind::Pod || object.metadata.deletion_timestamp.is_none());
    }
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
        "replicas": replicas,
        "selector": { "matchLabels": { "app": "web" } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "app", "image": image, "ports": [{ "name": "http", "containerPort": 8080 }] }] },
        },
    } })
}

fn pod(name: &str, spec: Value) -> Value {
    let mut value = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "app", "image": "x" }] } });
    for (key, part) in spec.as_object().into_iter().flatten() {
        set(&mut value, &["spec", key.as_str()], part.clone());
    }
    value
}

fn service(name: &str, spec: Value) -> Value {
    let mut value = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] } });
    for (key, part) in spec.as_object().into_iter().flatten() {
        set(&mut value, &["spec", key.as_str()], part.clone());
    }
    value
}

#[test]
fn pods_are_placed_where_they_ask_and_else_spread() {
    let mut world = World::new(vec![
        pod(
            "a",
            json!({ "nodeSelector": { "kubernetes.io/hostname": "node-b" } }),
        ),
        pod("b", json!({ "nodeName": "node-b" })),
        pod("c", json!({})),
        pod("d", json!({})),
        pod("e", json!({ "nodeSelector": { "disk": "fast" } })),
    ]);
    world.settle();
    let nodes: Vec<Value> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| world.field(Kind::Pod, name, "/spec/nodeName"))
        .collect();
    assert_eq!(
        nodes,
        [
            json!("node-b"),
            json!("node-b"),
            json!("node-a"),
            json!("node-a"),
            Value::Null
        ]
    );
    let why = world.field(Kind::Pod, "e", "/status/conditions/0/message");
    assert_eq!(why, json!("no node of the lab carries disk=fast"));
    // A node that gets the label takes it.
    world.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
        "name": "node-a", "labels": { "kubernetes.io/hostname": "node-a", "disk": "fast" } } }));
    world.settle();
    assert_eq!(world.field(Kind::Pod, "e", "/spec/nodeName"), json!("node-a"));
}

#[test]
fn a_deployment_makes_named_owned_and_labelled_pods() {
    let mut world = World::new(vec![deployment(3, "x")]);
    world.settle();
    let pods = world.of(Kind::Pod);
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let hash = &pod.metadata.labels["pod-template-hash"];
        assert!(
            pod.metadata.name.starts_with(&format!("web-{hash}-")),
            "{}",
            pod.metadata.name
        );
        assert_eq!(pod.metadata.generate_name, format!("web-{hash}-"));
        let owner = pod.metadata.owner.as_ref().unwrap();
        assert_eq!(
            (owner.kind.as_str(), owner.name.clone()),
            ("ReplicaSet", format!("web-{hash}"))
        );
        assert_eq!(pod.metadata.labels["app"], "web");
    }
    assert_eq!(
        world.field(Kind::Deployment, "web", "/status/readyReplicas"),
        json!(0)
    );
    world.run_pods(true);
    world.settle();
    assert_eq!(
        world.field(Kind::Deployment, "web", "/status/readyReplicas"),
        json!(3)
    );

    world.put(deployment(1, "x"));
    world.settle();
    world.end_pods();
    assert_eq!(world.of(Kind::Pod).len(), 1);
}

#[test]
fn a_changed_template_replaces_pods_when_the_new_ones_are_ready() {
    let mut world = World::new(vec![deployment(2, "x")]);
    world.settle();
    world.run_pods(true);
    world.settle();
    let old: Vec<String> = world
        .of(Kind::Pod)
        .iter()
        .map(|pod| pod.metadata.name.clone())
        .collect();

    world.put(deployment(2, "y"));
    world.settle();
    assert_eq!(world.of(Kind::Pod).len(), 4);
    assert!(
        world
            .of(Kind::Pod)
            .iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_none())
    );
    world.run_pods(true);
    world.settle();
    world.end_pods();
    let new: Vec<String> = world
        .of(Kind::Pod)
        .iter()
        .map(|pod| pod.metadata.name.clone())
        .collect();
    assert_eq!(new.len(), 2);
    assert!(new.iter().all(|name| !old.contains(name)), "{old:?} {new:?}");

    world.delete(&ObjectKey::new(Kind::Deployment, "default", "web"));
    world.settle();
    world.end_pods();
    assert!(world.of(Kind::Pod).is_empty());
}

#[test]
fn recreate_ends_the_old_pods_first() {
    let with_strategy = |image| {
        let mut value = deployment(1, image);
        set(&mut value, &["spec", "strategy"], json!({ "type": "Recreate" }));
        value
    };
    let mut world = World::new(vec![with_strategy("x")]);
    world.settle();
    world.run_pods(true);
    world.put(with_strategy("y"));
    world.settle();
    assert!(world.of(Kind::Pod)[0].metadata.deletion_timestamp.is_some());
    let images = |world: &World| -> Vec<Value> {
        world
            .of(Kind::Pod)
            .iter()
            .map(|pod| pod.raw().pointer("/spec/containers/0/image").unwrap().clone())
            .collect()
    };
    world.end_pods();
    world.settle();
    assert_eq!(images(&world), [json!("y")]);
}

#[test]
fn services_get_addresses_and_keep_those_they_ask_for() {
    let mut world = World::new(vec![
        service("asks", json!({ "clusterIP": "10.96.0.10" })),
        service("plain", json!({})),
        service("headless", json!({ "clusterIP": "None" })),
        service("both", json!({ "ipFamilyPolicy": "PreferDualStack" })),
    ]);
    world.ipv6 = true;
    world.settle();
    assert_eq!(
        world.field(Kind::Service, "asks", "/spec/clusterIP"),
        json!("10.96.0.10")
    );
    assert_eq!(
        world.field(Kind::Service, "headless", "/spec/clusterIP"),
        json!("None")
    );
    assert_eq!(
        world.field(Kind::Service, "both", "/spec/clusterIPs"),
        json!(["10.96.0.11", "fd00:10:96::b"])
    );
    assert_eq!(
        world.field(Kind::Service, "plain", "/spec/clusterIPs"),
        json!(["10.96.0.12"])
    );

    let parse = |value| Object::from_value(value).unwrap();
    let pairs = |objects: &[Object]| {
        clash(
            objects
                .iter()
                .map(|object| (object, object.as_service().unwrap())),
        )
        .map(|(key, problem)| (key.name, problem))
    };
    let asks = |name: &str, address: &str| parse(service(name, json!({ "clusterIP": address })));
    assert_eq!(pairs(&[asks("a", "10.96.0.20"), asks("b", "10.96.0.21")]), None);
    let (name, problem) = pairs(&[asks("a", "10.96.0.20"), asks("b", "10.96.0.20")]).unwrap();
    assert!(
        name == "b" && problem.contains("already the address of"),
        "{problem}"
    );
    assert!(
        pairs(&[asks("a", "192.0.2.1")])
            .unwrap()
            .1
            .contains("lies outside")
    );
}

#[test]
fn endpoints_follow_pods_ports_and_readiness() {
    let mut world = World::new(vec![deployment(1, "x"), service("web", json!({}))]);
    world.settle();
    assert!(
        world.of(Kind::EndpointSlice).is_empty(),
        "no pod has an address yet"
    );
    world.run_pods(false);
    world.settle();
    let slice = |world: &World, path: &str| {
        let slices = world.of(Kind::EndpointSlice);
        assert_eq!(slices.len(), 1);
        slices[0].raw().pointer(path).cloned().unwrap()
    };
    assert_eq!(slice(&world, "/endpoints/0/conditions/ready"), json!(false));
    assert_eq!(slice(&world, "/ports/0/port"), json!(8080));
    world.run_pods(true);
    world.settle();
    assert_eq!(slice(&world, "/endpoints/0/conditions/ready"), json!(true));
    assert_eq!(
        slice(&world, "/endpoints/0/targetRef/uid"),
        json!(world.of(Kind::Pod)[0].metadata.uid)
    );

    // A pod that is told to end is an endpoint no more, though it still answers.
    let pod = world.of(Kind::Pod)[0].clone();
    world.put(with(
        &pod,
        &["metadata", "deletionTimestamp"],
        json!("2026-01-01T00:00:00Z"),
    ));
    world.put(deployment(0, "x"));
    world.settle();
    assert_eq!(
        slice(&world, "/endpoints/0/conditions"),
        json!({ "ready": false, "serving": true, "terminating": true })
    );

    world.delete(&ObjectKey::new(Kind::Service, "default", "web"));
    world.settle();
    assert!(world.of(Kind::EndpointSlice).is_empty());
}

#[test]
fn slices_that_somebody_else_made_stay() {
    let mut world = World::new(vec![
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "out" }, "spec": { "ports": [{ "port": 80 }] } }),
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": "mine", "labels": { "kubernetes.io/service-name": "out" } },
            "ports": [{ "name": "", "port": 80, "protocol": "TCP" }], "endpoints": [{ "addresses": ["192.0.2.7"] }] }),
    ]);
    world.settle();
    assert_eq!(world.of(Kind::EndpointSlice).len(), 1);
}

#[test]
fn a_namespace_that_is_deleted_takes_everything_in_it_along() {
    let mut world = World::new(vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "gone" } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "s", "namespace": "gone" } }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "gone" },
            "spec": { "nodeName": "node-a", "containers": [{ "name": "a", "image": "x" }] } }),
    ]);
    world.settle();
    assert_eq!(
        world.field(
            Kind::Namespace,
            "gone",
            "/metadata/labels/kubernetes.io~1metadata.name"
        ),
        json!("gone")
    );
    let namespace = world
        .of(Kind::Namespace)
        .into_iter()
        .find(|object| object.metadata.name == "gone")
        .unwrap();
    world.put(with(
        &namespace,
        &["metadata", "deletionTimestamp"],
        json!("2026-01-01T00:00:00Z"),
    ));
    world.settle();
    assert!(world.of(Kind::ServiceAccount).is_empty());
    assert!(
        world.of(Kind::Pod)[0].metadata.deletion_timestamp.is_some(),
        "the pod is told to end first"
    );
    assert_eq!(
        world.of(Kind::Namespace).len(),
        2,
        "the namespace waits for its pod"
    );
    world.end_pods();
    world.settle();
    assert_eq!(world.of(Kind::Namespace).len(), 1);
}

#[test]
fn a_pod_deleted_before_it_was_placed_goes_at_once() {
    let mut world = World::new(vec![pod("p", json!({ "nodeSelector": { "disk": "fast" } }))]);
    world.settle();
    let pod = world.of(Kind::Pod)[0].clone();
    world.put(with(
        &pod,
        &["metadata", "deletionTimestamp"],
        json!("2026-01-01T00:00:00Z"),
    ));
    world.settle();
    assert!(world.of(Kind::Pod).is_empty());
}

#[test]
fn a_waypoint_has_a_service_and_an_address_while_a_pod_of_it_is_ready() {
    let gateway = json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": { "name": "gate" },
        "spec": { "gatewayClassName": "istio-waypoint", "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] } });
    let mut of_gate = pod("w", json!({}));
    set(
        &mut of_gate,
        &["metadata", "labels"],
        json!({ "gateway.networking.k8s.io/gateway-name": "gate" }),
    );
    let mut world = World::new(vec![gateway, of_gate]);
    world.settle();
    let addresses = |world: &World| world.field(Kind::Gateway, "gate", "/status/addresses");
    assert_eq!(world.field(Kind::Service, "gate", "/spec/ports/0/port"), 15008);
    assert_eq!(
        world.field(
            Kind::Service,
            "gate",
            "/metadata/labels/gateway.istio.io~1managed"
        ),
        "istio.io-mesh-controller"
    );
    assert_eq!(addresses(&world), Value::Null);
    world.run_pods(true);
    world.settle();
    let ready = json!([{ "type": "Hostname", "value": "gate.default.svc.cluster.local" }]);
    assert_eq!(addresses(&world), ready);
    world.run_pods(false);
    world.settle();
    assert_eq!(addresses(&world), json!([]));
}
