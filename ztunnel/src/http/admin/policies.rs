//! A policy as `config_dump` shows it.

use mesh::policy::{Action, Attribute, Condition, Match, Policy, Scope, StringMatch, Values};
use serde_json::{Map, Value, json};

pub(super) fn describe(policy: &Policy) -> Value {
    let rules: Vec<Vec<Vec<Value>>> = policy
        .rules()
        .iter()
        .map(|rule| {
            let clauses = rule.clauses.iter();
            clauses
                .map(|clause| clause.matches().iter().map(describe_match).collect())
                .collect()
        })
        .collect();
    let origin = policy.origin.as_ref().map(|origin| {
        json!({
            "kind": origin.kind.as_str(),
            "namespace": &*origin.namespace,
            "name": &*origin.name,
            "generation": origin.generation,
            "rules": origin.rules,
        })
    });
    let mut value = json!({
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
    });
    if let (Some(origin), Some(fields)) = (origin, value.as_object_mut()) {
        fields.insert("origin".to_owned(), origin);
    }
    value
}

fn describe_match(found: &Match) -> Value {
    let fields = found.conditions().iter().map(|condition| {
        let name = name(condition).to_owned();
        (name, values(&condition.values))
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

fn name(condition: &Condition) -> &'static str {
    match (condition.attribute(), condition.negated) {
        (Attribute::Namespace, false) => "namespaces",
        (Attribute::Namespace, true) => "notNamespaces",
        (Attribute::ServiceAccount, false) => "serviceAccounts",
        (Attribute::ServiceAccount, true) => "notServiceAccounts",
        (Attribute::Principal, false) => "principals",
        (Attribute::Principal, true) => "notPrincipals",
        (Attribute::SourceIp, false) => "sourceIps",
        (Attribute::SourceIp, true) => "notSourceIps",
        (Attribute::DestinationIp, false) => "destinationIps",
        (Attribute::DestinationIp, true) => "notDestinationIps",
        (Attribute::DestinationPort, false) => "destinationPorts",
        (Attribute::DestinationPort, true) => "notDestinationPorts",
    }
}

fn values(values: &Values) -> Value {
    match values {
        Values::Namespaces(list) | Values::Principals(list) => list.iter().map(string).collect(),
        Values::ServiceAccounts(list) => list
            .iter()
            .map(|one| json!({ "namespace": &*one.namespace, "serviceAccount": &*one.service_account }))
            .collect(),
        Values::SourceIps(list) | Values::DestinationIps(list) => list
            .iter()
            .map(|prefix| Value::from(prefix.to_string()))
            .collect(),
        Values::DestinationPorts(list) => list.iter().map(|port| Value::from(*port)).collect(),
    }
}

fn string(found: &StringMatch) -> Value {
    match found {
        StringMatch::Exact(text) => json!({ "Exact": &**text }),
        StringMatch::Prefix(text) => json!({ "Prefix": &**text }),
        StringMatch::Suffix(text) => json!({ "Suffix": &**text }),
        StringMatch::Presence => json!({ "Presence": {} }),
    }
}
