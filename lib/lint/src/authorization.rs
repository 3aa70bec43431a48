//! What is to be said about an AuthorizationPolicy by itself.

use std::collections::BTreeSet;

use objects::{Action, AuthorizationPolicy, ReadObject, Rule, Source, Test};

use crate::code::Code;
use crate::finding::Finding;
use crate::modes;
use crate::scope::Scope;
use crate::terms;
use crate::world::{Workload, World, is_dry_run, some};

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    for (read, policy) in world.authorization_policies() {
        if is_dry_run(&read.object) && policy.target_refs.is_empty() {
            found.push(Finding::about(
                read,
                Code::DryRun,
                "metadata.annotations",
                "the policy is tried and not enforced: it refuses nobody",
                "drop the annotation istio.io/dry-run once what it would do is right",
            ));
        }
        if !policy.action.is_supported() {
            found.push(Finding::about(
                read,
                Code::Unreadable,
                "spec.action",
                format!(
                    "node proxies do not know the action {}: nobody enforces the policy",
                    policy.action.as_str()
                ),
                "use ALLOW or DENY",
            ));
            continue;
        }
        if policy.target_refs.is_empty() {
            unreadable(read, policy, found);
            http(world, read, policy, found);
            contradictions(world, read, policy, found);
            exclusions(world, read, policy, found);
        }
    }
}

/// What is stored and cannot be read: it closes.
fn unreadable(read: &ReadObject, policy: &AuthorizationPolicy, found: &mut Vec<Finding>) {
    for (index, rule) in policy.rules.iter().enumerate() {
        let parts: Vec<&str> = rule.unreadable_parts().collect();
        if parts.is_empty() {
            continue;
        }
        let effect = match policy.action {
            Action::Deny => "counts as matching, so the rule denies more than it says",
            _ => "counts as not matching, so the rule allows less than it says",
        };
        found.push(Finding::about(
            read,
            Code::Unreadable,
            format!("spec.rules[{index}]"),
            format!("what cannot be read {effect}: {}", some(parts)),
            "apply the policy again with values that are accepted; what is wrong with them is said then",
        ));
    }
}

/// HTTP attributes, rule by rule: what is enforced of it.
fn http(world: &World<'_>, read: &ReadObject, policy: &AuthorizationPolicy, found: &mut Vec<Finding>) {
    let namespace = &read.object.metadata.namespace;
    for (index, rule) in policy.rules.iter().enumerate() {
        let mut names: Vec<&str> = rule.http_attributes().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            continue;
        }
        let left = terms::cubes(rule, policy.action, namespace, &world.settings.trust_domains)
            .is_none_or(|cubes| !cubes.is_empty());
        let effect = match (policy.action, left) {
            (Action::Allow | Action::Audit | Action::Custom, _) => {
                "the whole rule allows nothing: not even its callers and ports are let in by it"
            }
            (Action::Deny, true) => {
                "the rule is enforced without them and denies more than it says: every connection that its other \
                 parts match"
            }
            (Action::Deny, false) => "nothing of the rule is left, and it denies nothing",
        };
        found.push(Finding::about(
            read,
            Code::HttpWithoutWaypoint,
            format!("spec.rules[{index}]"),
            format!("a node proxy cannot decide HTTP attributes (found: {}), so {effect}", names.join(", ")),
            "put a waypoint in front of the Service and attach the policy to it by targetRefs in place of selector; or \
             drop the HTTP attributes and let callers and ports decide",
        ));
    }
}

/// Rules that can never match, and a DENY of which no rule is left.
fn contradictions(
    world: &World<'_>,
    read: &ReadObject,
    policy: &AuthorizationPolicy,
    found: &mut Vec<Finding>,
) {
    let namespace = &read.object.metadata.namespace;
    let mut dead = 0;
    for (index, rule) in policy.rules.iter().enumerate() {
        let Some(cubes) = terms::cubes(rule, policy.action, namespace, &world.settings.trust_domains) else {
            continue;
        };
        if !terms::all_empty(&cubes) {
            continue;
        }
        dead += 1;
        if rule.http_attributes().next().is_some() {
            // Said above, with what is left of it.
            continue;
        }
        found.push(Finding::about(
            read,
            Code::NeverMatches,
            format!("spec.rules[{index}]"),
            format!("no connection can match this rule: {}", contradiction(rule)),
            "conditions of one rule must all hold; write alternatives as values of one list, or as rules of their own",
        ));
    }
    if policy.action == Action::Deny && !policy.rules.is_empty() && dead == policy.rules.len() {
        found.push(Finding::about(
            read,
            Code::DenyWithoutEffect,
            "spec.rules",
            "no rule of this DENY policy can match any connection at a node proxy: it denies nothing",
            "write at least one rule of callers, addresses or ports; for HTTP, attach the policy to a waypoint by \
             targetRefs",
        ));
    }
}

fn contradiction(rule: &Rule) -> &'static str {
    if rule.when.is_empty() {
        "parts of its sources exclude each other"
    } else {
        "its sources, operations and conditions exclude each other"
    }
}

/// An ALLOW that only says who may not.
fn exclusions(world: &World<'_>, read: &ReadObject, policy: &AuthorizationPolicy, found: &mut Vec<Finding>) {
    if policy.action != Action::Allow {
        return;
    }
    let scope = Scope::of(world, &read.object, &policy.selector);
    let selected: Vec<&Workload> = world
        .workloads
        .iter()
        .filter(|workload| scope.selects(workload))
        .collect();
    // Nobody knows of pods that are not there; else `None` stands for the ports that no PeerAuthentication names.
    let open: BTreeSet<Option<u16>> = if selected.is_empty() {
        [None].into()
    } else {
        let open = selected.iter().flat_map(|workload| open_ports(world, workload));
        open.collect()
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        if rule.http_attributes().next().is_some()
            || rule.when.iter().any(|condition| asks_identity(&condition.test))
        {
            continue;
        }
        for (place, source) in rule.from.iter().enumerate() {
            let cubes = terms::cubes(
                rule,
                policy.action,
                &read.object.metadata.namespace,
                &world.settings.trust_domains,
            );
            let admits = |port: &&Option<u16>| {
                let plaintext = terms::Cube::plaintext(**port);
                port.is_none()
                    || cubes
                        .as_ref()
                        .is_none_or(|cubes| terms::may_meet(cubes, &plaintext))
            };
            let admitted: Vec<&Option<u16>> = open.iter().filter(admits).collect();
            if excludes_only(source) && !admitted.is_empty() {
                // Only where all other ports are STRICT the ports are the point.
                let ports: Vec<String> = admitted
                    .iter()
                    .filter_map(|port| Some(port.as_ref()?.to_string()))
                    .collect();
                let at = if admitted.contains(&&None) {
                    String::new()
                } else {
                    format!(
                        " on what PeerAuthentications leave open, port {}",
                        some(ports.iter().map(String::as_str))
                    )
                };
                found.push(Finding::about(
                    read,
                    Code::AdmitsPlaintext,
                    format!("spec.rules[{index}].from[{place}].source"),
                    format!(
                        "the source only says who may not: a caller without an identity is none of those, so plaintext is \
                         let in{at}"
                    ),
                    "add principals: [\"*\"] to the source, or set PeerAuthentication to STRICT",
                ));
            }
        }
    }
}

/// The ports of a workload that take plaintext; `None`: those that no PeerAuthentication names.
fn open_ports(world: &World<'_>, workload: &Workload) -> Vec<Option<u16>> {
    let named = modes::deciding(world, workload).map(|(_, policy)| policy.port_modes.keys().copied());
    let ports = named.into_iter().flatten().map(Some);
    let is_open = |port: &Option<u16>| modes::mode(world, workload, *port).0 != objects::MtlsMode::Strict;
    std::iter::once(None).chain(ports).filter(is_open).collect()
}

fn excludes_only(source: &Source) -> bool {
    let excludes = !source.principals.none.is_empty()
        || !source.namespaces.none.is_empty()
        || !source.service_accounts.none.is_empty();
    let asks = !source.principals.any.is_empty()
        || !source.namespaces.any.is_empty()
        || !source.service_accounts.any.is_empty();
    excludes && !asks && source.ip_blocks.any.is_empty()
}

fn asks_identity(test: &Test) -> bool {
    match test {
        Test::SourcePrincipal(texts) | Test::SourceNamespace(texts) => !texts.any.is_empty(),
        Test::SourceServiceAccount(accounts) => !accounts.any.is_empty(),
        _ => false,
    }
}
