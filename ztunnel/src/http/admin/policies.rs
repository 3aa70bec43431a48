//! A policy as `config_dump` shows it.

use mesh::policy::{Action, Match, Policy, Scope, ServiceAccountMatch, StringMatch};
use serde_json::{Map, Value, json};

pub(super) fn describe(policy: &Policy) -> Value {
    let rules: Vec<Vec<Vec<Value>>> = policy
        .rules
        .iter()
        .map(|rule| {
            let clauses = rule.clauses.iter();
            clauses
                .map(|clause| clause.matches.iter().map(describe_match).collect())
                .collect()
        })
        .collect();
    json!({
        "name": &*policy.name,
        "namespace": &*policy.namespace,
        "scope": match policy.scope {
            Scope::Global => "Global",
            Scope::Namespace => "Namespace",
            Scope::WorkloadSelector => "WorkloadSelector",
        },
        "action": match policy.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        },
        "rules": rules,
        "dryRun": policy.dry_run,
    })
}

fn describe_match(found: &Match) -> Value {
    let mut value = Map::new();
    let mut put = |name: &str, list: Vec<Value>| {
        if !list.is_empty() {
            value.insert(name.to_owned(), list.into());
        }
    };
    let strings = |list: &[StringMatch]| list.iter().map(string).collect();
    let accounts = |list: &[ServiceAccountMatch]| list.iter().map(account).collect();
    put("namespaces", strings(&found.namespaces));
    put("notNamespaces", strings(&found.not_namespaces));
    put("serviceAccounts", accounts(&found.service_accounts));
    put("notServiceAccounts", accounts(&found.not_service_accounts));
    put("principals", strings(&found.principals));
    put("notPrincipals", strings(&found.not_principals));
    let prefixes = |list: &[mesh::IpPrefix]| list.iter().map(|prefix| prefix.to_string().into()).collect();
    put("sourceIps", prefixes(&found.source_ips));
    put("notSourceIps", prefixes(&found.not_source_ips));
    put("destinationIps", prefixes(&found.destination_ips));
    put("notDestinationIps", prefixes(&found.not_destination_ips));
    let ports = |list: &[u16]| list.iter().map(|port| (*port).into()).collect();
    put("destinationPorts", ports(&found.destination_ports));
    put("notDestinationPorts", ports(&found.not_destination_ports));
    value.into()
}

fn string(found: &StringMatch) -> Value {
    match found {
        StringMatch::Exact(text) => json!({ "Exact": &**text }),
        StringMatch::Prefix(text) => json!({ "Prefix": &**text }),
        StringMatch::Suffix(text) => json!({ "Suffix": &**text }),
        StringMatch::Presence => json!({ "Presence": {} }),
    }
}

fn account(found: &ServiceAccountMatch) -> Value {
    json!({ "namespace": &*found.namespace, "serviceAccount": &*found.service_account })
}
