//! Objects and status for people.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lab::{LabStatus, ProcessView};
use objects::{Kind, Object, REDIRECTION_ANNOTATION};
use serde_json::{Value, json};

use crate::args::Output;
use crate::print;

/// Prints objects as kubectl would.
pub(super) fn objects(
    kind: Kind,
    objects: &[Arc<Object>],
    all_namespaces: bool,
    single: bool,
    output: Output,
) {
    match output {
        Output::Json => {
            let values: Vec<&Value> = objects.iter().map(|object| object.raw()).collect();
            match (single, values.as_slice()) {
                (true, [one]) => print::pretty_json(one),
                _ => print::pretty_json(&json!({ "apiVersion": "v1", "kind": "List", "items": values })),
            }
        }
        Output::Yaml => {
            let texts: Vec<String> = objects.iter().map(|object| object.to_yaml()).collect();
            print::bytes(texts.join("---\n").as_bytes());
        }
        Output::Table => {
            if objects.is_empty() {
                eprintln!("no {kind} found");
                return;
            }
            let (columns, row) = columns(kind);
            let wide = all_namespaces && kind.is_namespaced();
            let mut header: Vec<&str> = if wide {
                vec!["NAMESPACE", "NAME"]
            } else {
                vec!["NAME"]
            };
            header.extend(columns);
            header.push("AGE");
            let rows = objects
                .iter()
                .map(|object| {
                    let mut cells = Vec::new();
                    if wide {
                        cells.push(object.metadata.namespace.clone());
                    }
                    cells.push(object.metadata.name.clone());
                    cells.extend(row(object));
                    cells.push(age(object));
                    cells
                })
                .collect();
            print::table(&header, rows);
        }
    }
}

/// The cells of an object between its name and its age.
type Row = fn(&Object) -> Vec<String>;

fn columns(kind: Kind) -> (&'static [&'static str], Row) {
    match kind {
        Kind::Pod => (&["READY", "STATUS", "RESTARTS", "IP", "NODE", "MESH"], pod),
        Kind::Deployment => (&["READY", "UP-TO-DATE"], deployment),
        Kind::Service => (&["TYPE", "CLUSTER-IP", "PORT(S)"], service),
        Kind::Node => (&["INTERNAL-IP", "POD-CIDR"], node),
        Kind::EndpointSlice => (&["ADDRESSTYPE", "PORTS", "ENDPOINTS"], slice),
        Kind::PeerAuthentication => (&["MODE"], |object| vec![text(object, "/spec/mtls/mode")]),
        Kind::AuthorizationPolicy => (&["ACTION"], |object| {
            let action = text(object, "/spec/action");
            vec![if action.is_empty() {
                "ALLOW".to_owned()
            } else {
                action
            }]
        }),
        Kind::Namespace => (&["STATUS", "DATAPLANE-MODE"], |object| {
            let mode = object
                .metadata
                .labels
                .get(objects::DATAPLANE_MODE_LABEL)
                .cloned()
                .unwrap_or_default();
            let leaving = object.metadata.deletion_timestamp.is_some();
            vec![if leaving { "Terminating" } else { "Active" }.to_owned(), mode]
        }),
        Kind::NetworkPolicy => (&["POD-SELECTOR"], pod_selector),
        Kind::Gateway => (&["CLASS", "ADDRESS"], gateway),
        Kind::GatewayClass => (&["CONTROLLER"], |object| {
            vec![text(object, "/spec/controllerName")]
        }),
        Kind::ServiceEntry => (&["HOSTS", "LOCATION", "RESOLUTION", "ADDRESSES"], service_entry),
        Kind::WorkloadEntry => (&["ADDRESS"], |object| vec![text(object, "/spec/address")]),
        Kind::WorkloadGroup | Kind::ConfigMap => (&[], |_| Vec::new()),
        Kind::ServiceAccount => (&[], |_| Vec::new()),
    }
}

fn gateway(object: &Object) -> Vec<String> {
    let address = |address: &objects::GatewayAddress| match address {
        objects::GatewayAddress::Hostname(name) => name.clone(),
        objects::GatewayAddress::Ip(address) => address.to_string(),
    };
    let addresses = object.as_gateway().map(|gateway| &gateway.addresses);
    let addresses: Vec<String> = addresses.into_iter().flatten().map(address).collect();
    vec![text(object, "/spec/gatewayClassName"), addresses.join(",")]
}

fn service_entry(object: &Object) -> Vec<String> {
    let Some(entry) = object.as_service_entry() else {
        return vec![String::new(); 4];
    };
    let given = entry.addresses.iter().map(ToString::to_string);
    let chosen = entry.allocated.iter().map(|one| one.address.to_string());
    let addresses: Vec<String> = if entry.addresses.is_empty() {
        chosen.collect()
    } else {
        given.collect()
    };
    vec![
        entry.hosts.join(","),
        text(object, "/spec/location"),
        text(object, "/spec/resolution"),
        addresses.join(","),
    ]
}

fn pod_selector(object: &Object) -> Vec<String> {
    let objects::Spec::NetworkPolicy(policy) = &object.spec else {
        return vec![String::new()];
    };
    let selector = policy.pod_selector.to_string();
    vec![if selector.is_empty() {
        "<none>".to_owned()
    } else {
        selector
    }]
}

fn pod(object: &Object) -> Vec<String> {
    let statuses = object
        .raw()
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array);
    let statuses = statuses.map_or(&[][..], Vec::as_slice);
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restarts: u64 = statuses
        .iter()
        .filter_map(|status| status["restartCount"].as_u64())
        .sum();
    let waiting = statuses
        .iter()
        .find_map(|status| status.pointer("/state/waiting/reason")?.as_str());
    let phase = text(object, "/status/phase");
    let word = match (object.metadata.deletion_timestamp.is_some(), waiting) {
        (true, _) => "Terminating".to_owned(),
        (false, Some(waiting)) => waiting.to_owned(),
        (false, None) if phase.is_empty() => "Pending".to_owned(),
        (false, None) => phase,
    };
    let containers = object
        .raw()
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    vec![
        format!("{ready}/{containers}"),
        word,
        restarts.to_string(),
        text(object, "/status/podIP"),
        text(object, "/spec/nodeName"),
        object
            .metadata
            .annotations
            .get(REDIRECTION_ANNOTATION)
            .cloned()
            .unwrap_or_default(),
    ]
}

fn deployment(object: &Object) -> Vec<String> {
    let count = |path: &str| object.raw().pointer(path).and_then(Value::as_u64);
    let wanted = object.as_deployment().map_or(0, |deployment| deployment.replicas);
    vec![
        format!("{}/{wanted}", count("/status/readyReplicas").unwrap_or(0)),
        count("/status/updatedReplicas").unwrap_or(0).to_string(),
    ]
}

fn service(object: &Object) -> Vec<String> {
    let kind = text(object, "/spec/type");
    let ports = object.raw().pointer("/spec/ports").and_then(Value::as_array);
    let ports: Vec<String> = ports
        .into_iter()
        .flatten()
        .map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")))
        .collect();
    vec![
        if kind.is_empty() {
            "ClusterIP".to_owned()
        } else {
            kind
        },
        text(object, "/spec/clusterIP"),
        ports.join(","),
    ]
}

fn node(object: &Object) -> Vec<String> {
    vec![
        text(object, "/status/addresses/0/address"),
        text(object, "/spec/podCIDR"),
    ]
}

fn slice(object: &Object) -> Vec<String> {
    let list = |path: &str, part: fn(&Value) -> String| {
        let items = object.raw().pointer(path).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .map(part)
            .collect::<Vec<_>>()
            .join(",")
    };
    vec![
        text(object, "/addressType"),
        list("/ports", |port| port["port"].to_string()),
        list("/endpoints", |endpoint| {
            let ready = if endpoint["conditions"]["ready"] == false {
                " (not ready)"
            } else {
                ""
            };
            format!("{}{ready}", endpoint["addresses"][0].as_str().unwrap_or_default())
        }),
    ]
}

fn text(object: &Object, path: &str) -> String {
    object
        .raw()
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// How old an object is, in whole units.
fn age(object: &Object) -> String {
    let created = object.metadata.creation_timestamp.as_deref().and_then(parse_utc);
    let Some(age) = created.and_then(|time| SystemTime::now().duration_since(time).ok()) else {
        return String::new();
    };
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// RFC 3339 in UTC, whole seconds; days are counted as in Howard Hinnant's `days_from_civil`.
fn parse_utc(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    let seconds = u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Prints what runs where.
pub(super) fn status(status: &LabStatus) {
    let process = |view: &ProcessView| -> Vec<String> {
        vec![
            view.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            if view.ready {
                "ready".to_owned()
            } else {
                format!("not ready ({})", view.state)
            },
            view.restarts.to_string(),
        ]
    };
    let mut rows = Vec::new();
    let mut row = |name: String, cells: Vec<String>, namespace: &std::path::Path| {
        let mut all = vec![name];
        all.extend(cells);
        all.push(namespace.display().to_string());
        rows.push(all);
    };
    if status.mesh {
        row(
            "control-plane".to_owned(),
            process(&status.control_plane),
            &status.control_plane.network_namespace,
        );
        for node in &status.nodes {
            row(
                format!("ztunnel/{}", node.name),
                process(&node.ztunnel),
                &node.network_namespace,
            );
            row(
                format!("node-agent/{}", node.name),
                process(&node.node_agent),
                &node.network_namespace,
            );
        }
        print::table(
            &["PROCESS", "PID", "STATE", "RESTARTS", "NETWORK NAMESPACE"],
            rows,
        );
        print::line("");
    }
    if let Some(api) = &status.kube_api {
        print::line(&format!(
            "Kubernetes API at {}, for kubectl: KUBECONFIG={}",
            api.url,
            api.kubeconfig.display()
        ));
        print::line("");
    }
    let rows = status
        .nodes
        .iter()
        .map(|node| {
            let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
            let namespace = node.network_namespace.display().to_string();
            vec![
                node.name.clone(),
                addresses.join(","),
                node.pod_range.clone(),
                namespace,
            ]
        })
        .chain([vec![
            "(wire)".to_owned(),
            String::new(),
            String::new(),
            status.fabric_namespace.display().to_string(),
        ]])
        .collect();
    print::table(&["NODE", "ADDRESS", "PODS", "NETWORK NAMESPACE"], rows);
    print::line("");
    let rows = status
        .pods
        .iter()
        .map(|pod| {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let pids: Vec<String> = pod
                .containers
                .iter()
                .filter_map(|container| container.pid)
                .map(|pid| pid.to_string())
                .collect();
            let waiting = pod
                .containers
                .iter()
                .find(|container| container.state != "Running");
            let state = waiting.map_or_else(|| pod.phase.clone(), |container| container.state.clone());
            vec![
                pod.namespace.clone(),
                pod.name.clone(),
                if pod.ready { "yes" } else { "no" }.to_owned(),
                state,
                pod.enrolment.clone(),
                addresses.join(","),
                pod.node.clone(),
                pids.join(","),
                pod.network_namespace.display().to_string(),
            ]
        })
        .collect();
    let header = [
        "NAMESPACE",
        "POD",
        "READY",
        "STATE",
        "MESH",
        "ADDRESS",
        "NODE",
        "PID",
        "NETWORK NAMESPACE",
    ];
    print::table(&header, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let seconds =
            |text| parse_utc(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(seconds("2026-11-22T19:35:26Z"), Some(1_795_376_126));
        assert_eq!(seconds("x"), None);
    }
}
