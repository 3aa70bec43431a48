//! What the tests share: objects from text, and a naive reading of the policies that come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::{Object, ObjectKey};
use prost::Message;
use proto::security::{Authorization, Match};
use proto::workload::{Address, Service, Workload, address::Type};

use crate::{Compiler, Settings};

/// The objects of a manifest, as changes.
pub(crate) fn puts(text: &str) -> Vec<(ObjectKey, Option<Arc<Object>>)> {
    let objects = objects::parse("test.yaml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    objects
        .into_iter()
        .map(|object| (object.key(), Some(Arc::new(object))))
        .collect()
}

/// An object as the store has it, wrong or not, as a change.
pub(crate) fn stored(
    kind: objects::Kind,
    namespace: &str,
    name: &str,
    text: &str,
) -> (ObjectKey, Option<Arc<Object>>) {
    let key = ObjectKey::new(kind, namespace, name);
    let object =
        objects::parse_stored("test.yaml", text, &key).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    (key, Some(Arc::new(object)))
}

/// Which callers the node proxy's model lets in to each port of each workload.
pub(crate) fn verdicts(compiler: &Compiler, probes: &Probes) -> BTreeMap<String, Vec<bool>> {
    let mut snapshot = mesh::Snapshot::new();
    snapshot.apply([mesh::Change::PoliciesSynced]);
    for policy in compiler.policies().values() {
        let policy = mesh::Policy::decode(&policy.encode_to_vec()).expect("a good policy");
        snapshot.apply([mesh::Change::Policy(policy)]);
    }
    let mut all = BTreeMap::new();
    for (uid, address) in compiler.addresses() {
        let Some(Type::Workload(workload)) = &address.r#type else {
            continue;
        };
        let workload = mesh::Workload::from_proto(workload.clone()).expect("a good workload");
        let mut verdicts = Vec::new();
        for caller in &probes.callers {
            let peer =
                caller.map(|(namespace, account)| mesh::Identity::new("cluster.local", namespace, account));
            for source in &probes.sources {
                for port in &probes.ports {
                    let connection = mesh::Connection {
                        peer: peer.as_ref(),
                        source_ip: source.parse().expect("an address"),
                        workload: &workload,
                        destination: (workload.addresses[0], *port).into(),
                    };
                    verdicts.push(mesh::authorize(&connection, &snapshot).verdict == mesh::Verdict::Allow);
                }
            }
        }
        all.insert(uid.clone(), verdicts);
    }
    all
}

/// Connections to be tried.
pub(crate) struct Probes {
    /// Namespace and service account; `None` is plaintext.
    pub(crate) callers: Vec<Option<(&'static str, &'static str)>>,
    pub(crate) sources: Vec<&'static str>,
    pub(crate) ports: Vec<u16>,
}

/// A compiler that was given a manifest.
pub(crate) fn compiled(text: &str) -> Compiler {
    let mut compiler = Compiler::new(Settings::default());
    compiler.apply(puts(text));
    compiler
}

pub(crate) fn workload<'a>(compiler: &'a Compiler, uid: &str) -> &'a Workload {
    match compiler.addresses().get(uid) {
        Some(Address {
            r#type: Some(Type::Workload(workload)),
        }) => workload,
        other => panic!("{uid}: {other:?}"),
    }
}

pub(crate) fn service<'a>(compiler: &'a Compiler, key: &str) -> &'a Service {
    match compiler.addresses().get(key) {
        Some(Address {
            r#type: Some(Type::Service(service)),
        }) => service,
        other => panic!("{key}: {other:?}"),
    }
}

/// A pod that is running, with its labels as YAML.
pub(crate) fn pod(namespace: &str, name: &str, labels: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}, labels: {labels}}}\n\
         spec: {{containers: [{{name: a}}]}}\n\
         status: {{phase: Running, podIP: 10.1.0.2, conditions: [{{type: Ready, status: \"True\"}}]}}\n{rest}"
    )
}

/// Whether the listed policies let plaintext in to a port, as wire.md words it; panics on a policy that is listed and
/// not there.
pub(crate) fn accepts(compiler: &Compiler, workload: &Workload, port: u16, principal: Option<&str>) -> bool {
    let listed = workload.authorization_policies.iter();
    let policies = listed.map(|key| {
        compiler
            .policies()
            .get(key)
            .unwrap_or_else(|| panic!("{key} is missing"))
    });
    !policies
        .into_iter()
        .any(|policy| matches_policy(policy, port, principal))
}

fn matches_policy(policy: &Authorization, port: u16, principal: Option<&str>) -> bool {
    assert_eq!(policy.action(), proto::security::Action::Deny);
    let holds = |part: &Match| {
        let port = u32::from(port);
        *part != Match::default()
            && (part.destination_ports.is_empty() || part.destination_ports.contains(&port))
            && !part.not_destination_ports.contains(&port)
            // The only strings in these policies ask for the presence of a principal.
            && (part.not_principals.is_empty() || principal.is_none())
    };
    policy
        .rules
        .iter()
        .any(|rule| rule.clauses.iter().all(|clause| clause.matches.iter().any(holds)))
}
