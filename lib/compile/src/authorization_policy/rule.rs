//! One rule of a policy to what a node proxy can decide, and what is lost on the way.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use objects::{Action, IpBlock, Matches, Operation, Rule, ServiceAccountRef, Source, Test};
use proto::origin::{Effect, NotEnforced};
use proto::security::string_match::MatchType;
use proto::security::{self, Clause, Match, ServiceAccountMatch, StringMatch};

/// The unspecified address (RFC 1122, section 3.2.1.3): no connection goes there.
const NO_DESTINATION: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What became of a rule.
pub(super) struct Made {
    /// What is sent; `None`: the rule is left out.
    pub(super) rule: Option<security::Rule>,
    /// What of it is not enforced as written.
    pub(super) not_enforced: Option<Part>,
}

/// What of a rule is not enforced as written.
pub(super) struct Part {
    attributes: BTreeSet<String>,
    effect: Effect,
}

impl Part {
    pub(super) fn of_rule(self, rule: u32) -> NotEnforced {
        NotEnforced {
            rule,
            attributes: self.attributes.into_iter().collect(),
            effect: self.effect.into(),
        }
    }
}

/// Converts a rule: one clause for `to`, one for `from`, and one for each condition.
pub(super) fn convert(rule: &Rule, action: Action, namespace: &str) -> Made {
    let closes = action != Action::Allow;
    let http = rule.http_attributes().map(str::to_owned);
    let mut lost: BTreeSet<String> = http.collect();
    if !rule.unreadable.is_empty() {
        lost.insert("the whole rule".to_owned());
        // Without clauses it matches everything.
        let everything = security::Rule::default();
        return made(closes.then_some(everything), closes, lost);
    }
    if !closes && !lost.is_empty() {
        return made(None, closes, lost);
    }
    let mut clauses = Vec::new();
    let mut add = |entries: Vec<Entry>| {
        let mut matches = Vec::new();
        for entry in entries {
            lost.extend(entry.lost.iter().map(|name| (*name).to_owned()));
            matches.extend(entry.finish());
        }
        let can_be_left_out = matches.is_empty();
        clauses.push(Clause { matches });
        !can_be_left_out
    };
    let to = rule.to.iter().map(|operation| of_operation(operation, closes));
    let from = rule
        .from
        .iter()
        .map(|source| of_source(source, closes, namespace));
    let mut holds = rule.to.is_empty() || add(to.collect());
    holds &= rule.from.is_empty() || add(from.collect());
    for condition in &rule.when {
        holds &= add(vec![of_condition(&condition.test, closes, namespace)]);
    }
    made(holds.then_some(security::Rule { clauses }), closes, lost)
}

/// Whether any connection can match: an alternative that asks for nothing never does.
pub(super) fn can_match(rule: &security::Rule) -> bool {
    let mut clauses = rule.clauses.iter();
    clauses.all(|clause| clause.matches.iter().any(|part| *part != Match::default()))
}

fn made(rule: Option<security::Rule>, closes: bool, attributes: BTreeSet<String>) -> Made {
    let effect = match &rule {
        None => Effect::RuleOmitted,
        Some(rule) if closes && !can_match(rule) => Effect::NoEffect,
        Some(_) => Effect::EnforcedWithout,
    };
    let not_enforced = (!attributes.is_empty()).then_some(Part { attributes, effect });
    Made { rule, not_enforced }
}

/// One of the alternatives of a clause.
struct Entry {
    part: Match,
    /// In a DENY rule what cannot be read counts as matching, in an ALLOW rule as not matching.
    closes: bool,
    /// Something that could not be read counts as matching, so this entry asks for less than it says.
    widened: bool,
    /// Something that could not be read counts as not matching, so this entry matches nothing.
    never: bool,
    /// Where there was something that could not be read.
    lost: Vec<&'static str>,
}

impl Entry {
    fn new(closes: bool) -> Entry {
        Entry {
            part: Match::default(),
            closes,
            widened: false,
            never: false,
            lost: Vec::new(),
        }
    }

    /// Both lists of an attribute, as they can be sent.
    fn lists<T, W>(
        &mut self,
        [any, none]: [&'static str; 2],
        values: &Matches<T>,
        convert: impl Fn(&T) -> W,
    ) -> (Vec<W>, Vec<W>) {
        let mut wanted: Vec<W> = values.any.iter().map(&convert).collect();
        let unwanted: Vec<W> = values.none.iter().map(&convert).collect();
        if !values.unreadable_any.is_empty() {
            self.lost.push(any);
            if self.closes {
                wanted.clear();
                self.widened = true;
            } else if wanted.is_empty() {
                self.never = true;
            }
        }
        if !values.unreadable_none.is_empty() {
            self.lost.push(none);
            self.widened |= self.closes;
            self.never |= !self.closes;
        }
        (wanted, unwanted)
    }

    /// What is sent; `None`: it matches nothing.
    fn finish(self) -> Option<Match> {
        if self.never {
            return None;
        }
        let mut part = self.part;
        if self.widened && part == Match::default() {
            // A match that asks for nothing never holds. This one always does, for every node proxy.
            part.not_destination_ips.push(security::Address {
                address: ip_bytes(NO_DESTINATION),
                length: 32,
            });
        }
        Some(part)
    }
}

fn of_operation(operation: &Operation, closes: bool) -> Entry {
    let mut entry = Entry::new(closes);
    let (any, none) = entry.lists(["ports", "notPorts"], &operation.ports, number);
    entry.part.destination_ports = any;
    entry.part.not_destination_ports = none;
    entry
}

fn of_source(source: &Source, closes: bool, namespace: &str) -> Entry {
    let mut entry = Entry::new(closes);
    let (any, none) = entry.lists(["namespaces", "notNamespaces"], &source.namespaces, string);
    (entry.part.namespaces, entry.part.not_namespaces) = (any, none);
    let account = |account: &ServiceAccountRef| service_account(account, namespace);
    let (any, none) = entry.lists(
        ["serviceAccounts", "notServiceAccounts"],
        &source.service_accounts,
        account,
    );
    (entry.part.service_accounts, entry.part.not_service_accounts) = (any, none);
    let (any, none) = entry.lists(["principals", "notPrincipals"], &source.principals, string);
    (entry.part.principals, entry.part.not_principals) = (any, none);
    let (any, none) = entry.lists(["ipBlocks", "notIpBlocks"], &source.ip_blocks, address);
    (entry.part.source_ips, entry.part.not_source_ips) = (any, none);
    // Trust domains have no field to be sent in.
    let _: (Vec<()>, Vec<()>) = entry.lists(
        ["trustDomains", "notTrustDomains"],
        &source.trust_domains,
        |never| match *never {},
    );
    entry
}

fn of_condition(test: &Test, closes: bool, namespace: &str) -> Entry {
    let mut entry = Entry::new(closes);
    match test {
        Test::SourceIp(blocks) => {
            let (any, none) = entry.lists(["source.ip"; 2], blocks, address);
            (entry.part.source_ips, entry.part.not_source_ips) = (any, none);
        }
        Test::DestinationIp(blocks) => {
            let (any, none) = entry.lists(["destination.ip"; 2], blocks, address);
            (entry.part.destination_ips, entry.part.not_destination_ips) = (any, none);
        }
        Test::SourceNamespace(texts) => {
            let (any, none) = entry.lists(["source.namespace"; 2], texts, string);
            (entry.part.namespaces, entry.part.not_namespaces) = (any, none);
        }
        Test::SourcePrincipal(texts) => {
            let (any, none) = entry.lists(["source.principal"; 2], texts, string);
            (entry.part.principals, entry.part.not_principals) = (any, none);
        }
        Test::SourceServiceAccount(accounts) => {
            let account = |account: &ServiceAccountRef| service_account(account, namespace);
            let (any, none) = entry.lists(["source.serviceAccount"; 2], accounts, account);
            (entry.part.service_accounts, entry.part.not_service_accounts) = (any, none);
        }
        Test::DestinationPort(numbers) => {
            let (any, none) = entry.lists(["destination.port"; 2], numbers, number);
            (entry.part.destination_ports, entry.part.not_destination_ports) = (any, none);
        }
        // Only in DENY rules: a match that asks for nothing never matches, and with it the rule never does.
        Test::Http => {}
    }
    entry
}

fn number(port: &u16) -> u32 {
    u32::from(*port)
}

fn service_account(account: &ServiceAccountRef, namespace: &str) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: account.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        service_account: account.name.clone(),
    }
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

fn string(text: &String) -> StringMatch {
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
}
