//! Whether a policy matches a connection. Deciding, explaining and foretelling all go through here.

use std::net::{IpAddr, SocketAddr};

use super::condition::{Accounts, Blocks, ClauseIndex, Ports, Strings};
use super::{Attribute, Clause, Condition, Match, Policy, Rule, ServiceAccountMatch, StringMatch, Values};
use crate::identity::Identity;

/// What policies are held against.
pub(crate) struct Attributes<'a> {
    peer: Option<Peer<'a>>,
    source_ip: IpAddr,
    destination_ip: IpAddr,
    destination_port: u16,
}

struct Peer<'a> {
    identity: &'a Identity,
    principal: String,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(peer: Option<&'a Identity>, source_ip: IpAddr, destination: SocketAddr) -> Self {
        Self {
            peer: peer.map(|identity| Peer {
                identity,
                principal: identity.principal(),
            }),
            source_ip: source_ip.to_canonical(),
            destination_ip: destination.ip().to_canonical(),
            destination_port: destination.port(),
        }
    }

    /// Whether the caller has an identity.
    pub(crate) fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// The attribute in words; none if the connection lacks it.
    pub(crate) fn text(&self, attribute: Attribute) -> Option<String> {
        let peer = self.peer.as_ref();
        match attribute {
            Attribute::Namespace => peer.map(|peer| peer.identity.namespace().to_owned()),
            Attribute::ServiceAccount => peer.map(|peer| {
                let identity = peer.identity;
                format!("{}/{}", identity.namespace(), identity.service_account())
            }),
            Attribute::Principal => peer.map(|peer| peer.principal.clone()),
            Attribute::SourceIp => (!self.source_ip.is_unspecified()).then(|| self.source_ip.to_string()),
            Attribute::DestinationIp => Some(self.destination_ip.to_string()),
            Attribute::DestinationPort => Some(self.destination_port.to_string()),
        }
    }
}

impl Policy {
    /// The first rule that matches.
    pub(crate) fn matching_rule(&self, attributes: &Attributes<'_>) -> Option<usize> {
        self.rules.iter().position(|rule| rule.applies(attributes))
    }
}

impl Rule {
    pub(crate) fn applies(&self, attributes: &Attributes<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.applies(attributes))
    }
}

impl Clause {
    pub(crate) fn applies(&self, attributes: &Attributes<'_>) -> bool {
        let matches = self.matches();
        match &self.index {
            Some(index) => {
                let mut others = index.others.iter().filter_map(|position| matches.get(*position));
                index.accepts(attributes) || others.any(|one| one.applies(attributes))
            }
            None => matches.is_empty() || matches.iter().any(|one| one.applies(attributes)),
        }
    }
}

impl ClauseIndex {
    fn accepts(&self, attributes: &Attributes<'_>) -> bool {
        let is_named = attributes.peer.as_ref().is_some_and(|peer| {
            self.principals.matches(&peer.principal)
                || self.namespaces.matches(peer.identity.namespace())
                || self.service_accounts.matches(peer.identity)
        });
        is_named
            || self.sources.contains(attributes.source_ip)
            || self.destinations.contains(attributes.destination_ip)
            || self.ports.contains(attributes.destination_port)
    }
}

impl Match {
    pub(crate) fn applies(&self, attributes: &Attributes<'_>) -> bool {
        let conditions = self.conditions();
        !conditions.is_empty() && conditions.iter().all(|condition| condition.holds(attributes))
    }
}

impl Condition {
    /// An attribute that the caller lacks has no value, so no positive list holds and every negative one does.
    pub(crate) fn holds(&self, attributes: &Attributes<'_>) -> bool {
        self.values.fit(attributes) != self.negated
    }
}

impl Values {
    /// Whether one of them fits.
    fn fit(&self, attributes: &Attributes<'_>) -> bool {
        let peer = attributes.peer.as_ref();
        match self {
            Self::Namespaces(list) => peer.is_some_and(|peer| list.fit(peer.identity.namespace())),
            Self::ServiceAccounts(list) => peer.is_some_and(|peer| list.fit(peer.identity)),
            Self::Principals(list) => peer.is_some_and(|peer| list.fit(&peer.principal)),
            Self::SourceIps(list) => list.fit(attributes.source_ip),
            Self::DestinationIps(list) => list.fit(attributes.destination_ip),
            Self::DestinationPorts(list) => list.fit(attributes.destination_port),
        }
    }
}

impl Strings {
    fn fit(&self, value: &str) -> bool {
        match &self.index {
            Some(index) => index.matches(value),
            None => self.iter().any(|one| one.matches(value)),
        }
    }
}

impl Accounts {
    fn fit(&self, identity: &Identity) -> bool {
        match &self.index {
            Some(index) => index.matches(identity),
            None => self.iter().any(|one| one.matches(identity)),
        }
    }
}

impl Blocks {
    fn fit(&self, ip: IpAddr) -> bool {
        match &self.index {
            Some(index) => index.contains(ip),
            None => self.iter().any(|one| one.contains(ip)),
        }
    }
}

impl Ports {
    fn fit(&self, port: u16) -> bool {
        match &self.index {
            Some(index) => index.contains(port),
            None => self.contains(&port),
        }
    }
}

impl StringMatch {
    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Suffix(text) => value.ends_with(&**text),
            Self::Presence => !value.is_empty(),
        }
    }
}

impl ServiceAccountMatch {
    pub(crate) fn matches(&self, identity: &Identity) -> bool {
        *self.namespace == *identity.namespace() && *self.service_account == *identity.service_account()
    }
}

#[cfg(test)]
mod tests;
