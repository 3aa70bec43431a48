//! Random objects of a small mesh, and random connections in it. Names, labels, ports and addresses come from small
//! sets, so that policies meet the connections often enough.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// Where choices come from: a random generator, or the bytes of a fuzzer.
pub(crate) trait Entropy {
    /// A number below this one; 0 when there is no more to draw from.
    fn below(&mut self, most: usize) -> usize;

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 1
    }

    /// One of these.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A few of these, at least one; may repeat.
    fn some<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        let count = 1 + self.below(2);
        (0..count).map(|_| self.pick(from)).collect()
    }
}

/// The bytes of a fuzzer.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Entropy for Bytes<'_> {
    fn below(&mut self, most: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*first) % most
    }
}

pub(crate) const NAMESPACES: [&str; 3] = ["shop", "pay", "istio-system"];
pub(crate) const ACCOUNTS: [&str; 3] = ["web", "api", "default"];
pub(crate) const PORTS: [u16; 3] = [80, 8080, 9090];
const SOURCES: [&str; 6] = [
    "10.1.0.1",
    "10.1.0.9",
    "10.2.0.1",
    "192.168.1.1",
    "2001:db8::1",
    "2001:db8:1::1",
];
const BLOCKS: [&str; 8] = [
    "10.1.0.0/16",
    "10.1.0.9",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/48",
    "10.1.0.1/32",
    "192.168.0.0/31",
];
const TIMES: [&str; 3] = [
    "2026-01-01T00:00:00Z",
    "2026-01-02T00:00:00Z",
    "2026-01-03T00:00:00Z",
];
const LABELS: [(&str, &str); 4] = [
    ("app", "web"),
    ("app", "api"),
    ("tier", "front"),
    ("tier", "back"),
];
const MODES: [&str; 4] = ["STRICT", "PERMISSIVE", "UNSET", "DISABLE"];

/// A mesh: namespaces, pods that are all in it, and policies.
pub(crate) struct Mesh {
    /// All objects.
    pub(crate) objects: Vec<Value>,
    /// The pods among them.
    pub(crate) pods: Vec<Value>,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Position in [`Mesh::pods`].
    pub(crate) pod: usize,
    pub(crate) port: u16,
    pub(crate) identity: Option<(&'static str, &'static str)>,
    pub(crate) source: Option<IpAddr>,
}

/// A mesh with a few pods and up to ten policies.
pub(crate) fn mesh(from: &mut impl Entropy) -> Mesh {
    let mut objects: Vec<Value> = NAMESPACES
        .iter()
        .map(|name| {
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"istio.io/dataplane-mode": "ambient"}}})
        })
        .collect();
    let pods: Vec<Value> = (0..4).map(|index| pod(from, index)).collect();
    objects.extend(pods.iter().cloned());
    let peers = from.below(5);
    objects.extend((0..peers).map(|index| peer_authentication(from, &format!("p{index}"))));
    let policies = from.below(6);
    objects.extend((0..policies).map(|index| authorization_policy(from, &format!("a{index}"))));
    Mesh { objects, pods }
}

/// A connection to one of the mesh's pods.
pub(crate) fn connection(from: &mut impl Entropy, mesh: &Mesh) -> Connection {
    let identity = (!from.once_in(3)).then(|| (from.pick(&NAMESPACES), from.pick(&ACCOUNTS)));
    let source = from.pick(&SOURCES).parse().unwrap();
    Connection {
        pod: from.below(mesh.pods.len()),
        port: from.pick(&PORTS),
        identity,
        // Only who has an identity may leave the address open.
        source: (identity.is_none() || !from.once_in(4)).then_some(source),
    }
}

/// Each pod has an address of both families, so that every caller can reach it.
fn pod(from: &mut impl Entropy, index: usize) -> Value {
    let (v4, v6) = (
        format!("10.1.0.{}", 1 + index),
        format!("2001:db8::{}", 1 + index),
    );
    let mut labels = Map::new();
    for _ in 0..from.below(3) {
        let (key, value) = from.pick(&LABELS);
        labels.insert(key.to_owned(), value.into());
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": from.pick(&NAMESPACES), "name": format!("pod-{index}"), "labels": labels},
        "spec": {"serviceAccountName": from.pick(&ACCOUNTS), "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]},
    })
}

/// A PeerAuthentication of any level.
pub(crate) fn peer_authentication(from: &mut impl Entropy, name: &str) -> Value {
    let mut spec = Map::new();
    let selector = selector(from);
    if from.below(4) > 0 {
        spec.insert("mtls".to_owned(), json!({"mode": from.pick(&MODES)}));
    }
    let selects = selector
        .as_ref()
        .is_some_and(|selector| !selector["matchLabels"].is_null());
    if selects && from.below(2) == 1 {
        let ports: Map<String, Value> = from
            .some(&PORTS)
            .into_iter()
            .map(|port| (port.to_string(), json!({"mode": from.pick(&MODES)})))
            .collect();
        spec.insert("portLevelMtls".to_owned(), ports.into());
    }
    if let Some(selector) = selector {
        spec.insert("selector".to_owned(), selector);
    }
    object(from, "PeerAuthentication", name, spec)
}

/// An AuthorizationPolicy of any scope.
pub(crate) fn authorization_policy(from: &mut impl Entropy, name: &str) -> Value {
    let mut spec = Map::new();
    let is_deny = from.below(2) == 1;
    if is_deny {
        spec.insert("action".to_owned(), "DENY".into());
    }
    let rules = usize::from(is_deny) + from.below(3);
    if rules > 0 {
        spec.insert("rules".to_owned(), (0..rules).map(|_| rule(from)).collect());
    }
    if from.once_in(12) {
        spec.insert(
            "targetRefs".to_owned(),
            json!([{"kind": "Service", "group": "", "name": "web"}]),
        );
    } else if let Some(selector) = selector(from) {
        spec.insert("selector".to_owned(), selector);
    }
    let mut policy = object(from, "AuthorizationPolicy", name, spec);
    if from.once_in(12) {
        policy["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    }
    policy
}

fn object(from: &mut impl Entropy, kind: &str, name: &str, spec: Map<String, Value>) -> Value {
    let mut metadata = json!({"namespace": from.pick(&NAMESPACES), "name": name});
    if from.below(3) > 0 {
        metadata["creationTimestamp"] = from.pick(&TIMES).into();
    }
    let version = from.pick(&["security.istio.io/v1", "security.istio.io/v1beta1"]);
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn selector(from: &mut impl Entropy) -> Option<Value> {
    match from.below(5) {
        0 | 1 => None,
        2 => Some(json!({})),
        _ => {
            let labels: Map<String, Value> = from
                .some(&LABELS)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect();
            Some(json!({"matchLabels": labels}))
        }
    }
}

fn rule(from: &mut impl Entropy) -> Value {
    let mut rule = Map::new();
    if from.below(3) > 0 {
        let count = 1 + from.below(2);
        rule.insert(
            "from".to_owned(),
            (0..count).map(|_| json!({"source": source(from)})).collect(),
        );
    }
    if from.below(3) == 1 {
        let count = 1 + from.below(2);
        rule.insert(
            "to".to_owned(),
            (0..count)
                .map(|_| json!({"operation": operation(from)}))
                .collect(),
        );
    }
    if from.below(3) == 1 {
        let count = 1 + from.below(2);
        rule.insert("when".to_owned(), (0..count).map(|_| condition(from)).collect());
    }
    rule.into()
}

fn source(from: &mut impl Entropy) -> Value {
    let mut source = Map::new();
    let accounts = from.once_in(4);
    let count = 1 + from.below(2);
    for _ in 0..count {
        let negated = from.once_in(3);
        let (kind, values) = match from.below(8) {
            0..=2 if accounts => ("serviceAccounts", account_names(from)),
            0 | 1 => ("principals", principals(from)),
            2 => ("namespaces", namespace_patterns(from)),
            3 | 4 => ("ipBlocks", texts(from.some(&BLOCKS))),
            5 if accounts => ("serviceAccounts", account_names(from)),
            5 | 6 => ("namespaces", namespace_patterns(from)),
            _ if from.once_in(2) => ("remoteIpBlocks", texts(from.some(&BLOCKS))),
            _ => ("ipBlocks", texts(from.some(&BLOCKS))),
        };
        // Accounts exclude principals and namespaces.
        if accounts && matches!(kind, "principals" | "namespaces") {
            source.insert("ipBlocks".to_owned(), texts(from.some(&BLOCKS)));
            continue;
        }
        source.insert(field(kind, negated), values);
    }
    source.into()
}

fn operation(from: &mut impl Entropy) -> Value {
    let mut operation = Map::new();
    if from.below(4) > 0 {
        let negated = from.once_in(3);
        let ports = from
            .some(&PORTS)
            .iter()
            .map(|port| Value::from(port.to_string()))
            .collect();
        operation.insert(field("ports", negated), ports);
    }
    if operation.is_empty() || from.once_in(6) {
        let negated = from.once_in(3);
        operation.insert(field("methods", negated), json!(["GET"]));
    }
    operation.into()
}

fn condition(from: &mut impl Entropy) -> Value {
    let (key, values) = match from.below(8) {
        0 => ("source.principal", principals(from)),
        1 => ("source.namespace", namespace_patterns(from)),
        2 => ("source.ip", texts(from.some(&BLOCKS))),
        3 => ("destination.ip", texts(from.some(&BLOCKS))),
        4 | 5 => (
            "destination.port",
            from.some(&PORTS)
                .iter()
                .map(|port| Value::from(port.to_string()))
                .collect(),
        ),
        6 => ("source.serviceAccount", account_names(from)),
        _ => ("request.headers[x]", json!(["a"])),
    };
    let mut condition = json!({"key": key});
    let which = from.pick(&["values", "notValues"]);
    condition[which] = values;
    condition
}

fn principals(from: &mut impl Entropy) -> Value {
    let count = 1 + from.below(2);
    (0..count)
        .map(|_| {
            let (namespace, account) = (from.pick(&NAMESPACES), from.pick(&ACCOUNTS));
            Value::from(match from.below(6) {
                0 => "*".to_owned(),
                1 => format!("*/sa/{account}"),
                2 => format!("cluster.local/ns/{namespace}/*"),
                3 => format!("other.example/ns/{namespace}/sa/{account}"),
                _ => format!("cluster.local/ns/{namespace}/sa/{account}"),
            })
        })
        .collect()
}

fn namespace_patterns(from: &mut impl Entropy) -> Value {
    texts(from.some(&["shop", "pay", "istio-system", "sh*", "*-system", "*y", "*"]))
}

fn account_names(from: &mut impl Entropy) -> Value {
    texts(from.some(&["web", "shop/web", "pay/api", "default", "shop/default"]))
}

fn texts(values: Vec<&str>) -> Value {
    values.into()
}

fn field(name: &str, negated: bool) -> String {
    let (first, rest) = name.split_at(1);
    if negated {
        format!("not{}{rest}", first.to_uppercase())
    } else {
        name.to_owned()
    }
}
