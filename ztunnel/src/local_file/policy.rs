//! Policies of local state. `rules` (or `groups`, as they are called elsewhere) are lists of lists of lists: rules that
//! each hold clauses that each hold matches.

use super::read::{bytes, numbers, owned, resource};
use super::{Kind, Resource};
use objects::strict::{Field, Fields};
use proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
    string_match::MatchType,
};
use std::net::IpAddr;

pub(super) fn read(field: &Field<'_>) -> Option<Resource> {
    let mut fields = field.fields()?;
    let scopes = [
        ("Global", Scope::Global),
        ("Namespace", Scope::Namespace),
        ("WorkloadSelector", Scope::WorkloadSelector),
    ];
    let actions = [("Allow", Action::Allow), ("Deny", Action::Deny)];
    let name = fields.require("name", "it names the policy");
    let namespace = fields.require(
        "namespace",
        "a policy of the whole mesh stands in the root namespace",
    );
    let scope = fields.require("scope", "Global, Namespace or WorkloadSelector");
    let action = fields.require("action", "Allow or Deny");
    let (rules, groups) = (fields.get("rules"), fields.get("groups"));
    if let (Some(_), Some(groups)) = (&rules, &groups) {
        groups.error("is another name of rules; give one of them");
    }
    let rules = rules.or(groups).map(|list| list.items()).unwrap_or_default();
    let dry_run = fields.get("dryRun").and_then(|field| field.boolean());
    fields.finish();
    let rule = |rule: &Field<'_>| Rule {
        clauses: rule.items().iter().map(clause).collect(),
    };
    let policy = Authorization {
        name: name.and_then(|field| owned(&field)).unwrap_or_default(),
        namespace: namespace.and_then(|field| owned(&field)).unwrap_or_default(),
        scope: scope.and_then(|field| field.choice(&numbers(scopes)))?,
        action: action.and_then(|field| field.choice(&numbers(actions)))?,
        rules: rules.iter().map(rule).collect(),
        dry_run: dry_run.unwrap_or(false),
        extensions: Vec::new(),
    };
    let key = format!("{}/{}", policy.namespace, policy.name);
    Some(resource(Kind::Policy, key, &policy))
}

fn clause(field: &Field<'_>) -> Clause {
    Clause {
        matches: field.items().iter().filter_map(one_match).collect(),
    }
}

fn one_match(field: &Field<'_>) -> Option<Match> {
    let mut fields = field.fields()?;
    let found = Match {
        namespaces: list(&mut fields, "namespaces", text_match),
        not_namespaces: list(&mut fields, "notNamespaces", text_match),
        service_accounts: list(&mut fields, "serviceAccounts", service_account),
        not_service_accounts: list(&mut fields, "notServiceAccounts", service_account),
        principals: list(&mut fields, "principals", text_match),
        not_principals: list(&mut fields, "notPrincipals", text_match),
        source_ips: list(&mut fields, "sourceIps", prefix),
        not_source_ips: list(&mut fields, "notSourceIps", prefix),
        destination_ips: list(&mut fields, "destinationIps", prefix),
        not_destination_ips: list(&mut fields, "notDestinationIps", prefix),
        destination_ports: list(&mut fields, "destinationPorts", port),
        not_destination_ports: list(&mut fields, "notDestinationPorts", port),
        extensions: Vec::new(),
    };
    fields.finish();
    Some(found)
}

fn list<T>(fields: &mut Fields<'_>, name: &'static str, read: fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    let items = fields.get(name).map(|field| field.items()).unwrap_or_default();
    items.iter().filter_map(read).collect()
}

/// `exact: TEXT`, `prefix: TEXT`, `suffix: TEXT` or `presence: {}`.
fn text_match(field: &Field<'_>) -> Option<StringMatch> {
    let mut fields = field.fields()?;
    let mut found = Vec::new();
    for name in ["exact", "prefix", "suffix"] {
        if let Some(text) = fields.get(name).and_then(|field| owned(&field)) {
            found.push(match name {
                "exact" => MatchType::Exact(text),
                "prefix" => MatchType::Prefix(text),
                _ => MatchType::Suffix(text),
            });
        }
    }
    if fields.get("presence").is_some() {
        found.push(MatchType::Presence(()));
    }
    fields.finish();
    if found.len() != 1 {
        field.error("must have exactly one of exact, prefix, suffix and presence");
    }
    Some(StringMatch {
        match_type: found.pop(),
    })
}

/// `NAMESPACE/NAME`.
fn service_account(field: &Field<'_>) -> Option<ServiceAccountMatch> {
    field.parsed(|text| {
        let parts = text.split_once('/');
        let (namespace, name) = parts
            .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
            .ok_or("is not NAMESPACE/NAME")?;
        Ok(ServiceAccountMatch {
            namespace: namespace.to_owned(),
            service_account: name.to_owned(),
        })
    })
}

/// `ADDRESS/LENGTH`, or one address.
fn prefix(field: &Field<'_>) -> Option<Address> {
    field.parsed(|text| {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let ip: IpAddr = address
            .parse()
            .map_err(|_| "is neither an address nor ADDRESS/LENGTH")?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => length
                .parse::<u32>()
                .ok()
                .filter(|length| *length <= longest)
                .ok_or("has a prefix length that its family does not have")?,
        };
        Ok(Address {
            address: bytes(ip),
            length,
        })
    })
}

fn port(field: &Field<'_>) -> Option<u32> {
    field.port().map(u32::from)
}
