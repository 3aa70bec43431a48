//! What is open now.

use crate::connections::{OpenConnection, Subject};
use crate::context::Context;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

/// Writes every open connection.
pub(super) fn write(context: &Context, out: &mut impl Write) -> io::Result<()> {
    let now = Instant::now();
    let mut open = context.connections.list();
    open.sort_by_key(|connection| connection.id);
    let described: Vec<Value> = open
        .iter()
        .map(|connection| {
            let (direction, peer) = match &connection.subject {
                Subject::Inbound(subject) => ("inbound", subject.peer.as_ref().map(ToString::to_string)),
                _ => ("outbound", None),
            };
            json!({
                "id": connection.id,
                "pod": connection.pod.full_name(),
                "direction": direction,
                "source": connection.source.to_string(),
                "destination": connection.destination.to_string(),
                "peer": peer,
                "ageSeconds": now.duration_since(connection.since).as_secs(),
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &described)?;
    out.write_all(b"\n")
}

/// Served pods and their open connections, by the pod's uid.
pub(super) fn by_pod(context: &Context) -> Map<String, Value> {
    let mut open: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for connection in context.connections.list() {
        let (inbound, outbound) = open.entry(connection.pod.id.to_string()).or_default();
        match &connection.subject {
            Subject::Inbound(subject) => {
                let peer = subject.peer.as_ref().map(ToString::to_string);
                let protocol = if peer.is_some() { "HBONE" } else { "TCP" };
                inbound.push(ends(&connection, peer, protocol));
            }
            _ => outbound.push(ends(&connection, None, "TCP")),
        }
    }
    let mut pods = Map::new();
    for pod in context.pods.list() {
        let (inbound, outbound) = open.remove(&pod.id.to_string()).unwrap_or_default();
        let state = json!({
            "state": "Up",
            "info": {
                "name": &*pod.name,
                "namespace": pod.identity.namespace(),
                "serviceAccount": pod.identity.service_account(),
                "trustDomain": pod.identity.trust_domain(),
            },
            "connections": { "inbound": inbound, "outbound": outbound },
        });
        pods.insert(pod.id.to_string(), state);
    }
    pods
}

fn ends(connection: &OpenConnection, peer: Option<String>, protocol: &str) -> Value {
    json!({
        "src": connection.source.to_string(),
        "originalDst": connection.destination.to_string(),
        "actualDst": connection.destination.to_string(),
        "srcIdentity": peer,
        "protocol": protocol,
    })
}
