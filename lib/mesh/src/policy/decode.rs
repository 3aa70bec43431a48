//! Reads a policy from the wire, whole or not at all.

use std::sync::Arc;

use proto::security as message;
use proto::security::string_match::MatchType;

use super::{
    Accounts, Action, Blocks, Clause, Condition, MAX_POLICY_SIZE, Match, Origin, Policy, Ports, Rule, Scope,
    ServiceAccountMatch, StringMatch, Strings, Values, wire,
};
use crate::address::{IpPrefix, ip_from_bytes};
use crate::port::port_number;
use crate::rejected::Rejected;
use crate::workload::unknown;

pub(super) fn decode(bytes: &[u8]) -> Result<Policy, Rejected> {
    if bytes.len() > MAX_POLICY_SIZE {
        let size = bytes.len();
        return Err(Rejected::new(
            "",
            format!("has {size} bytes; at most {MAX_POLICY_SIZE} are accepted"),
        ));
    }
    let policy: message::Authorization = prost::Message::decode(bytes)
        .map_err(|error| Rejected::new("", format!("is no valid Authorization message: {error}")))?;
    let name = format!("{}/{}", policy.namespace, policy.name);
    let surprise = wire::check(bytes).err();
    // An unknown field beside scope and dry_run may change what they mean; one inside a rule cannot.
    let certain = !surprise.as_ref().is_some_and(wire::Unknown::is_outermost);
    let scope = scope(policy.scope).ok().filter(|_| certain);
    let dry_run = policy.dry_run && certain;
    let read = match surprise {
        Some(surprise) => Err(surprise.to_string()),
        None => read(policy, &name),
    };
    read.map_err(|reason| Rejected {
        name,
        reason,
        scope,
        dry_run,
        addresses: Vec::new(),
    })
}

fn read(policy: message::Authorization, key: &str) -> Result<Policy, String> {
    for (field, value) in [("name", &policy.name), ("namespace", &policy.namespace)] {
        if value.is_empty() || value.contains('/') {
            return Err(format!("{field} is empty or contains '/'"));
        }
    }
    Ok(Policy {
        scope: scope(policy.scope)?,
        action: match message::Action::try_from(policy.action) {
            Ok(message::Action::Allow) => Action::Allow,
            Ok(message::Action::Deny) => Action::Deny,
            Err(_) => return Err(unknown("action", policy.action)),
        },
        rules: each("rules", policy.rules, rule)?,
        dry_run: policy.dry_run,
        origin: Origin::of_policy(&policy.extensions),
        name: policy.name.into(),
        namespace: policy.namespace.into(),
        key: key.into(),
    })
}

fn scope(value: i32) -> Result<Scope, String> {
    match message::Scope::try_from(value) {
        Ok(message::Scope::Global) => Ok(Scope::Global),
        Ok(message::Scope::Namespace) => Ok(Scope::Namespace),
        Ok(message::Scope::WorkloadSelector) => Ok(Scope::WorkloadSelector),
        Err(_) => Err(unknown("scope", value)),
    }
}

/// Reads a list; what is wrong is said with its place in it.
fn each<T, U>(name: &str, list: Vec<T>, read: impl Fn(T) -> Result<U, String>) -> Result<Vec<U>, String> {
    let place = |(index, item)| read(item).map_err(|reason| format!("{name}[{index}]: {reason}"));
    list.into_iter().enumerate().map(place).collect()
}

fn rule(rule: message::Rule) -> Result<Rule, String> {
    Ok(Rule {
        clauses: each("clauses", rule.clauses, clause)?,
    })
}

fn clause(clause: message::Clause) -> Result<Clause, String> {
    Ok(Clause::new(each("matches", clause.matches, one_match)?))
}

fn one_match(raw: message::Match) -> Result<Match, String> {
    if let Some(extension) = raw.extensions.first() {
        return Err(format!(
            "extension {:?} is not known to this version",
            extension.name
        ));
    }
    let strings = |name, list| each(name, list, string_match).map(Strings::from);
    let accounts = |name, list| each(name, list, service_account).map(Accounts::from);
    let blocks = |name, list| each(name, list, prefix).map(Blocks::from);
    let ports = |name, list| each(name, list, port).map(Ports::from);
    let is = |values| Condition {
        negated: false,
        values,
    };
    let is_not = |values| Condition {
        negated: true,
        values,
    };
    Ok(Match::new(vec![
        is(Values::Namespaces(strings("namespaces", raw.namespaces)?)),
        is_not(Values::Namespaces(strings("not_namespaces", raw.not_namespaces)?)),
        is(Values::ServiceAccounts(accounts(
            "service_accounts",
            raw.service_accounts,
        )?)),
        is_not(Values::ServiceAccounts(accounts(
            "not_service_accounts",
            raw.not_service_accounts,
        )?)),
        is(Values::Principals(strings("principals", raw.principals)?)),
        is_not(Values::Principals(strings("not_principals", raw.not_principals)?)),
        is(Values::SourceIps(blocks("source_ips", raw.source_ips)?)),
        is_not(Values::SourceIps(blocks("not_source_ips", raw.not_source_ips)?)),
        is(Values::DestinationIps(blocks(
            "destination_ips",
            raw.destination_ips,
        )?)),
        is_not(Values::DestinationIps(blocks(
            "not_destination_ips",
            raw.not_destination_ips,
        )?)),
        is(Values::DestinationPorts(ports(
            "destination_ports",
            raw.destination_ports,
        )?)),
        is_not(Values::DestinationPorts(ports(
            "not_destination_ports",
            raw.not_destination_ports,
        )?)),
    ]))
}

fn string_match(raw: message::StringMatch) -> Result<StringMatch, String> {
    match raw.match_type {
        Some(MatchType::Exact(text)) => Ok(StringMatch::Exact(Arc::from(text))),
        Some(MatchType::Prefix(text)) => Ok(StringMatch::Prefix(Arc::from(text))),
        Some(MatchType::Suffix(text)) => Ok(StringMatch::Suffix(Arc::from(text))),
        Some(MatchType::Presence(())) => Ok(StringMatch::Presence),
        None => Err("says neither exact, prefix, suffix nor presence".to_owned()),
    }
}

fn service_account(raw: message::ServiceAccountMatch) -> Result<ServiceAccountMatch, String> {
    if raw.namespace.is_empty() || raw.service_account.is_empty() {
        return Err("names no namespace or no service account".to_owned());
    }
    Ok(ServiceAccountMatch {
        namespace: raw.namespace.into(),
        service_account: raw.service_account.into(),
    })
}

fn prefix(raw: message::Address) -> Result<IpPrefix, String> {
    let ip = ip_from_bytes(&raw.address).map_err(|error| error.to_string())?;
    IpPrefix::new(ip, raw.length).map_err(|error| error.to_string())
}

fn port(number: u32) -> Result<u16, String> {
    match port_number(number)? {
        0 => Err("port 0 is no port".to_owned()),
        port => Ok(port),
    }
}
