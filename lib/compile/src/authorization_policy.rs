//! AuthorizationPolicy to what a node proxy can decide.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use objects::{
    Action, AuthorizationPolicy, IpBlock, Matches, Object, Rule, ServiceAccountRef, Source, Test, selector,
};
use proto::origin::{Effect, NotEnforced};
use proto::security::string_match::MatchType;
use proto::security::{self, Authorization, Clause, Match, Scope, ServiceAccountMatch, StringMatch};

use crate::index::Index;
use crate::origin;

/// What was made of a policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Converted {
    /// What is sent; `None`: it is not for node proxies.
    pub(crate) policy: Option<Authorization>,
    /// What its author should know.
    pub(crate) remark: Option<String>,
}

/// The keys of the policies with a selector that selects a pod, each list sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys {
    /// Those that are enforced.
    pub(crate) enforced: Vec<String>,
    /// Those that are only tried.
    pub(crate) dry_run: Vec<String>,
}

/// Whether a policy is for node proxies at all.
pub(crate) fn is_sent(policy: &AuthorizationPolicy) -> bool {
    policy.target_refs.is_empty()
}

/// The policies that select a pod by its labels: those of its own and of the root namespace.
pub(crate) fn keys_for(index: &Index, root: &str, pod: &Object) -> Keys {
    let metadata = &pod.metadata;
    let own = index.authorization_policies(&metadata.namespace);
    // In the root namespace, own policies are the wide ones already.
    let wide = index
        .authorization_policies(root)
        .filter(|_| metadata.namespace != root);
    let mut keys = Keys::default();
    for (object, policy) in own.chain(wide) {
        let selects = !policy.selector.is_empty()
            && is_sent(policy)
            && selector::matches(&metadata.labels, &policy.selector);
        match (selects, is_dry_run(object)) {
            (true, false) => keys.enforced.push(key(object)),
            (true, true) => keys.dry_run.push(key(object)),
            (false, _) => {}
        }
    }
    keys.enforced.sort_unstable();
    keys.dry_run.sort_unstable();
    keys
}

/// The resource name of a policy.
pub(crate) fn key(object: &Object) -> String {
    format!("{}/{}", object.metadata.namespace, object.metadata.name)
}

/// Whether a policy is to be tried without being enforced.
pub(crate) fn is_dry_run(object: &Object) -> bool {
    object
        .metadata
        .annotations
        .get(objects::DRY_RUN_ANNOTATION)
        .is_some_and(|value| value == "true")
}

/// Converts a policy. HTTP attributes cannot be decided: an ALLOW rule that names one is left out; from a DENY rule
/// they are erased, and what then asks for nothing matches nothing.
pub(crate) fn convert(object: &Object, policy: &AuthorizationPolicy, root: &str) -> Converted {
    if !is_sent(policy) {
        return Converted {
            policy: None,
            remark: None,
        };
    }
    let metadata = &object.metadata;
    let scope = match (policy.selector.is_empty(), metadata.namespace == root) {
        (true, true) => Scope::Global,
        (true, false) => Scope::Namespace,
        (false, _) => Scope::WorkloadSelector,
    };
    let mut origin = origin::of(object);
    let mut rules = Vec::new();
    for (number, rule) in (0..).zip(&policy.rules) {
        let attributes = sorted(rule.http_attributes());
        let converted = convert_rule(rule, &metadata.namespace);
        let effect = match (policy.action, attributes.is_empty()) {
            (_, true) => None,
            (Action::Allow, false) => Some(Effect::RuleOmitted),
            (Action::Deny, false) if can_match(&converted) => Some(Effect::EnforcedWithout),
            (Action::Deny, false) => Some(Effect::NoEffect),
        };
        if let Some(effect) = effect {
            origin.not_enforced.push(NotEnforced {
                rule: number,
                attributes,
                effect: effect.into(),
            });
        }
        if effect != Some(Effect::RuleOmitted) {
            rules.push(converted);
            origin.rules.push(number);
        }
    }
    let action = match policy.action {
        Action::Allow => security::Action::Allow,
        Action::Deny => security::Action::Deny,
    };
    let remark = remark(policy, &rules);
    let policy = Authorization {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        scope: scope.into(),
        action: action.into(),
        rules,
        dry_run: is_dry_run(object),
        extensions: vec![origin::of_policy(&origin)],
    };
    Converted {
        policy: Some(policy),
        remark,
    }
}

fn remark(policy: &AuthorizationPolicy, rules: &[security::Rule]) -> Option<String> {
    let found = policy.http_attributes();
    if found.is_empty() {
        return None;
    }
    let effect = match policy.action {
        Action::Allow => "Rules with HTTP attributes are left out, so they allow nothing.",
        Action::Deny if rules.iter().any(can_match) => {
            "DENY rules are enforced without their HTTP attributes, so they may deny more than they say; a rule of \
             which nothing is left denies nothing."
        }
        Action::Deny => "Nothing of the DENY rules is left: the policy has no effect.",
    };
    Some(format!(
        "ztunnel does not support HTTP attributes (found: {}). In ambient mode you must use a waypoint proxy to \
         enforce HTTP rules. {effect}",
        found.join(", ")
    ))
}

/// Whether any connection can match: an alternative that asks for nothing never does.
fn can_match(rule: &security::Rule) -> bool {
    let mut clauses = rule.clauses.iter();
    clauses.all(|clause| clause.matches.iter().any(|part| *part != Match::default()))
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().map(str::to_owned).collect()
}

/// A rule: one clause for `to`, one for `from`, and one for each condition.
fn convert_rule(rule: &Rule, namespace: &str) -> security::Rule {
    let mut clauses = Vec::new();
    if !rule.to.is_empty() {
        let matches = rule.to.iter().map(|operation| ports(&operation.ports)).collect();
        clauses.push(Clause { matches });
    }
    if !rule.from.is_empty() {
        let matches = rule
            .from
            .iter()
            .map(|source| convert_source(source, namespace))
            .collect();
        clauses.push(Clause { matches });
    }
    for condition in &rule.when {
        let part = match &condition.test {
            Test::SourceIp(blocks) => Match {
                source_ips: blocks.any.iter().map(address).collect(),
                not_source_ips: blocks.none.iter().map(address).collect(),
                ..Match::default()
            },
            Test::DestinationIp(blocks) => Match {
                destination_ips: blocks.any.iter().map(address).collect(),
                not_destination_ips: blocks.none.iter().map(address).collect(),
                ..Match::default()
            },
            Test::SourceNamespace(texts) => Match {
                namespaces: strings(&texts.any),
                not_namespaces: strings(&texts.none),
                ..Match::default()
            },
            Test::SourcePrincipal(texts) => Match {
                principals: strings(&texts.any),
                not_principals: strings(&texts.none),
                ..Match::default()
            },
            Test::SourceServiceAccount(accounts) => Match {
                service_accounts: service_accounts(&accounts.any, namespace),
                not_service_accounts: service_accounts(&accounts.none, namespace),
                ..Match::default()
            },
            Test::DestinationPort(numbers) => ports(numbers),
            // Only in DENY rules: a match that asks for nothing never matches, and with it the rule never does.
            Test::Http => Match::default(),
        };
        clauses.push(Clause { matches: vec![part] });
    }
    security::Rule { clauses }
}

fn convert_source(source: &Source, namespace: &str) -> Match {
    Match {
        namespaces: strings(&source.namespaces.any),
        not_namespaces: strings(&source.namespaces.none),
        service_accounts: service_accounts(&source.service_accounts.any, namespace),
        not_service_accounts: service_accounts(&source.service_accounts.none, namespace),
        principals: strings(&source.principals.any),
        not_principals: strings(&source.principals.none),
        source_ips: source.ip_blocks.any.iter().map(address).collect(),
        not_source_ips: source.ip_blocks.none.iter().map(address).collect(),
        ..Match::default()
    }
}

fn ports(ports: &Matches<u16>) -> Match {
    Match {
        destination_ports: ports.any.iter().copied().map(u32::from).collect(),
        not_destination_ports: ports.none.iter().copied().map(u32::from).collect(),
        ..Match::default()
    }
}

fn service_accounts(accounts: &[ServiceAccountRef], namespace: &str) -> Vec<ServiceAccountMatch> {
    let convert = |account: &ServiceAccountRef| ServiceAccountMatch {
        namespace: account.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        service_account: account.name.clone(),
    };
    accounts.iter().map(convert).collect()
}

fn address(block: &IpBlock) -> security::Address {
    security::Address {
        address: ip_bytes(block.address),
        length: u32::from(block.length),
    }
}

/// The 4 or 16 bytes of an address.
pub(crate) fn ip_bytes(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

fn strings(texts: &[String]) -> Vec<StringMatch> {
    let convert = |text: &String| {
        let kind = if text == "*" {
            MatchType::Presence(())
        } else if let Some(suffix) = text.strip_prefix('*') {
            MatchType::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix('*') {
            MatchType::Prefix(prefix.to_owned())
        } else {
            MatchType::Exact(text.clone())
        };
        StringMatch {
            match_type: Some(kind),
        }
    };
    texts.iter().map(convert).collect()
}

#[cfg(test)]
mod tests;
