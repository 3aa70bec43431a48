//! The rules of PeerAuthentication and AuthorizationPolicy, read from the text of the objects: no compiler, no
//! engine, no index. It knows what Istio documents for layer 4, and what becomes of HTTP attributes there.

use std::net::IpAddr;

use serde_json::Value;

/// A connection to a pod that is in the mesh.
pub(crate) struct Call<'a> {
    /// Namespace and service account of the caller; none for plaintext.
    pub(crate) identity: Option<(&'a str, &'a str)>,
    /// Where it comes from, where that is known.
    pub(crate) source: Option<IpAddr>,
    /// The pod.
    pub(crate) pod: &'a Value,
    /// The address of the pod that is called.
    pub(crate) destination: IpAddr,
    /// Its port.
    pub(crate) port: u16,
}

const ROOT: &str = "istio-system";

/// Whether the connection may pass.
pub(crate) fn allows(objects: &[Value], call: &Call<'_>) -> bool {
    if call.identity.is_none() && is_strict(objects, call) {
        return false;
    }
    let selected = |action: &'static str| {
        let policies = objects
            .iter()
            .filter(|object| object["kind"] == "AuthorizationPolicy");
        policies.filter(move |policy| selects(policy, call) && acts(policy, action))
    };
    if selected("DENY").any(|policy| matches(policy, call)) {
        return false;
    }
    selected("ALLOW").next().is_none() || selected("ALLOW").any(|policy| matches(policy, call))
}

/// The mode of a port: port, workload, namespace, mesh; the first that is set. The oldest object of a level counts.
fn is_strict(objects: &[Value], call: &Call<'_>) -> bool {
    let namespace = text(&call.pod["metadata"]["namespace"]);
    let oldest = |fits: &dyn Fn(&Value) -> bool| {
        let level = objects
            .iter()
            .filter(|object| object["kind"] == "PeerAuthentication" && fits(object));
        level.min_by_key(|object| {
            let metadata = &object["metadata"];
            let time = metadata["creationTimestamp"].as_str();
            (
                time.is_none(),
                time.unwrap_or(""),
                text(&metadata["namespace"]),
                text(&metadata["name"]),
            )
        })
    };
    let wide =
        |at: &str| oldest(&|object| object["metadata"]["namespace"] == at && selector(object).is_none());
    let workload = oldest(&|object| {
        let own = object["metadata"]["namespace"] == namespace && namespace != ROOT;
        own && selector(object).is_some_and(|labels| has(call.pod, labels))
    });
    let port = workload.map(|object| &object["spec"]["portLevelMtls"][call.port.to_string()]["mode"]);
    let modes = [workload, wide(namespace), wide(ROOT)]
        .map(|level| level.map(|object| &object["spec"]["mtls"]["mode"]));
    let set = [port]
        .into_iter()
        .chain(modes)
        .flatten()
        .filter_map(Value::as_str)
        .find(|mode| *mode != "UNSET");
    set == Some("STRICT")
}

fn selects(policy: &Value, call: &Call<'_>) -> bool {
    let (spec, metadata) = (&policy["spec"], &policy["metadata"]);
    let in_scope =
        metadata["namespace"] == ROOT || metadata["namespace"] == call.pod["metadata"]["namespace"];
    let attached = !spec["targetRef"].is_null() || !spec["targetRefs"].is_null();
    let tried = metadata["annotations"]["istio.io/dry-run"] == "true";
    in_scope && !attached && !tried && selector(policy).is_none_or(|labels| has(call.pod, labels))
}

fn acts(policy: &Value, action: &str) -> bool {
    policy["spec"]["action"].as_str().unwrap_or("ALLOW") == action
}

fn matches(policy: &Value, call: &Call<'_>) -> bool {
    let is_deny = acts(policy, "DENY");
    list(&policy["spec"]["rules"]).any(|rule| {
        let any = |entries: &str, kind: &str| {
            rule[entries].is_null()
                || list(&rule[entries]).any(|entry| holds(policy, &entry[kind], call) == Some(true))
        };
        let when = list(&rule["when"]).all(|condition| {
            let key = text(&condition["key"]);
            let both = [
                (key.to_owned(), &condition["values"]),
                (format!("not {key}"), &condition["notValues"]),
            ];
            all(
                policy,
                both.iter().map(|(key, values)| (key.as_str(), *values)),
                call,
            ) == Some(true)
        });
        // What cannot be decided: an ALLOW rule with it allows nothing, a DENY rule is as if it were not there.
        let whole = is_deny || !names_http(rule);
        whole && any("from", "source") && any("to", "operation") && when
    })
}

/// Whether everything asked for holds; `None` when nothing is asked that can be decided.
fn holds(policy: &Value, entry: &Value, call: &Call<'_>) -> Option<bool> {
    let fields = entry.as_object().into_iter().flatten();
    all(policy, fields.map(|(key, values)| (key.as_str(), values)), call)
}

fn all<'v>(
    policy: &Value,
    fields: impl Iterator<Item = (&'v str, &'v Value)>,
    call: &Call<'_>,
) -> Option<bool> {
    fields
        .filter(|(_, values)| !values.is_null())
        .filter_map(|(key, values)| one(policy, key, values, call))
        .fold(None, |so_far, holds| Some(so_far.unwrap_or(true) && holds))
}

/// Whether one list holds; `None` for an attribute of HTTP.
fn one(policy: &Value, key: &str, values: &Value, call: &Call<'_>) -> Option<bool> {
    let (identity, own) = (call.identity, text(&policy["metadata"]["namespace"]));
    let principal = identity.map(|(namespace, account)| format!("cluster.local/ns/{namespace}/sa/{account}"));
    let negated = key.starts_with("not");
    let value: Box<dyn Fn(&str) -> bool> = match key.trim_start_matches("not").trim_start() {
        "principals" | "Principals" | "source.principal" => Box::new(move |wanted| {
            principal
                .as_ref()
                .is_some_and(|principal| fits(wanted, principal))
        }),
        "namespaces" | "Namespaces" | "source.namespace" => {
            Box::new(move |wanted| identity.is_some_and(|(namespace, _)| fits(wanted, namespace)))
        }
        "serviceAccounts" | "ServiceAccounts" | "source.serviceAccount" => Box::new(move |wanted| {
            let (namespace, account) = wanted.split_once('/').unwrap_or((own, wanted));
            identity == Some((namespace, account))
        }),
        "ipBlocks" | "IpBlocks" | "source.ip" => {
            Box::new(move |wanted| call.source.is_some_and(|source| inside(wanted, source)))
        }
        "destination.ip" => Box::new(move |wanted| inside(wanted, call.destination)),
        "ports" | "Ports" | "destination.port" => Box::new(move |wanted| wanted == call.port.to_string()),
        _ => return None,
    };
    Some(list(values).any(|wanted| value(text(wanted))) != negated)
}

fn names_http(rule: &Value) -> bool {
    const HTTP: [&str; 10] = [
        "remoteIpBlocks",
        "notRemoteIpBlocks",
        "requestPrincipals",
        "notRequestPrincipals",
        "hosts",
        "notHosts",
        "methods",
        "notMethods",
        "paths",
        "notPaths",
    ];
    let entries = list(&rule["from"])
        .map(|from| &from["source"])
        .chain(list(&rule["to"]).map(|to| &to["operation"]));
    let mut fields = entries.flat_map(|entry| {
        entry
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
    });
    let key = |condition: &Value| text(&condition["key"]).to_owned();
    fields.any(|field| HTTP.contains(&field))
        || list(&rule["when"])
            .map(key)
            .any(|key| !key.starts_with("source.") && !key.starts_with("destination."))
}

fn fits(wanted: &str, value: &str) -> bool {
    match (wanted, wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        ("*", ..) => !value.is_empty(),
        (_, Some(end), _) => value.ends_with(end),
        (_, _, Some(begin)) => value.starts_with(begin),
        _ => wanted == value,
    }
}

/// Bit by bit.
fn inside(block: &str, address: IpAddr) -> bool {
    fn bits(address: IpAddr) -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1))
            .collect()
    }
    let (base, length) = block.split_once('/').unwrap_or((block, "128"));
    let (base, length) = (bits(base.parse().unwrap()), length.parse::<usize>().unwrap());
    let address = bits(address);
    base.len() == address.len()
        && base
            .iter()
            .zip(&address)
            .take(length)
            .all(|(left, right)| left == right)
}

/// The labels of a selector that selects by any; none counts as no selector.
fn selector(object: &Value) -> Option<&Value> {
    let labels = &object["spec"]["selector"]["matchLabels"];
    labels
        .as_object()
        .is_some_and(|labels| !labels.is_empty())
        .then_some(labels)
}

fn has(pod: &Value, labels: &Value) -> bool {
    let own = &pod["metadata"]["labels"];
    labels
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, value)| own[key] == *value)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
