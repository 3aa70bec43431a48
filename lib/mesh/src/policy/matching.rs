//! Whether a policy matches a connection.

use std::net::IpAddr;

use super::{Clause, Match, Policy, Rule, ServiceAccountMatch, StringMatch};
use crate::address::IpPrefix;
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
    pub(crate) fn new(
        peer: Option<&'a Identity>,
        source_ip: IpAddr,
        destination: std::net::SocketAddr,
    ) -> Self {
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
}

impl Policy {
    /// The first rule that matches.
    pub(crate) fn matching_rule(&self, attributes: &Attributes<'_>) -> Option<usize> {
        self.rules.iter().position(|rule| rule.matches(attributes))
    }
}

impl Rule {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(attributes))
    }
}

impl Clause {
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.matches(attributes))
    }
}

impl Match {
    /// An attribute that the caller lacks has no value, so no positive list holds and every negative one does.
    fn matches(&self, attributes: &Attributes<'_>) -> bool {
        let peer = attributes.peer.as_ref();
        let namespace =
            |value: &StringMatch| peer.is_some_and(|peer| value.matches(peer.identity.namespace()));
        let principal = |value: &StringMatch| peer.is_some_and(|peer| value.matches(&peer.principal));
        let account = |value: &ServiceAccountMatch| peer.is_some_and(|peer| value.matches(peer.identity));
        let source = |value: &IpPrefix| value.contains(attributes.source_ip);
        let destination = |value: &IpPrefix| value.contains(attributes.destination_ip);
        let port = |value: &u16| *value == attributes.destination_port;
        !self.is_empty()
            && holds(&self.namespaces, &self.not_namespaces, namespace)
            && holds(&self.principals, &self.not_principals, principal)
            && holds(&self.service_accounts, &self.not_service_accounts, account)
            && holds(&self.source_ips, &self.not_source_ips, source)
            && holds(&self.destination_ips, &self.not_destination_ips, destination)
            && holds(&self.destination_ports, &self.not_destination_ports, port)
    }

    fn is_empty(&self) -> bool {
        let Self {
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
        } = self;
        [namespaces, not_namespaces, principals, not_principals]
            .iter()
            .all(|list| list.is_empty())
            && [service_accounts, not_service_accounts]
                .iter()
                .all(|list| list.is_empty())
            && [source_ips, not_source_ips, destination_ips, not_destination_ips]
                .iter()
                .all(|l| l.is_empty())
            && [destination_ports, not_destination_ports]
                .iter()
                .all(|list| list.is_empty())
    }
}

fn holds<T>(positive: &[T], negative: &[T], matches: impl Fn(&T) -> bool) -> bool {
    (positive.is_empty() || positive.iter().any(&matches)) && !negative.iter().any(matches)
}

impl StringMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(&**text),
            Self::Suffix(text) => value.ends_with(&**text),
            Self::Presence => !value.is_empty(),
        }
    }
}

impl ServiceAccountMatch {
    fn matches(&self, identity: &Identity) -> bool {
        *self.namespace == *identity.namespace() && *self.service_account == *identity.service_account()
    }
}
