//! Connections that differ from a refused one so that one condition turns.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Facts;
use crate::address::{IpPrefix, NetworkAddress};
use crate::authorize::Connection;
use crate::identity::Identity;
use crate::policy::{Attribute, Condition, ServiceAccountMatch, StringMatch, Values};
use crate::snapshot::Snapshot;

/// The most values of one list that are turned into candidates.
const MAX_TRIED: usize = 8;
/// The most blocks of one list that are searched for the one that an address is in.
const MAX_BLOCKS: usize = 1024;
/// The account of pods that name none.
const DEFAULT: &str = "default";

/// A connection that is different.
pub(super) struct Candidate {
    pub(super) facts: Facts,
    /// The value or pattern that it has now, or what it had and has no more.
    pub(super) value: String,
    /// What it has, where `value` does not say it exactly.
    pub(super) example: Option<String>,
    /// It has an identity, and which one does not matter to the condition.
    pub(super) is_any_identity: bool,
}

/// Connections that differ from `facts` in the condition's attribute, so that it holds if it does not and does not
/// if it holds. What else they break is for the caller to find out.
pub(super) fn turning(
    condition: &Condition,
    facts: &Facts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
) -> Vec<Candidate> {
    let fits = condition.holds(&facts.attributes()) != condition.negated;
    let mut found = if fits {
        avoiding(&condition.values, facts)
    } else {
        fitting(&condition.values, facts, connection, snapshot)
    };
    let turned = |facts: &Facts| (condition.holds(&facts.attributes()) != condition.negated) != fits;
    found.retain(|candidate| turned(&candidate.facts));
    found
}

/// Who a caller without identity would probably be: the workload at its address, else somebody of the destination's
/// namespace.
pub(super) fn likely_identity(connection: &Connection<'_>, snapshot: &Snapshot) -> Identity {
    let workload = connection.workload;
    let address = NetworkAddress::new(workload.network.clone(), connection.source_ip);
    snapshot.workload_by_address(&address).map_or_else(
        || Identity::new(&workload.trust_domain, &workload.namespace, DEFAULT),
        |workload| workload.identity(),
    )
}

/// Connections of which a value of the list fits, in its order.
fn fitting(
    values: &Values,
    facts: &Facts,
    connection: &Connection<'_>,
    snapshot: &Snapshot,
) -> Vec<Candidate> {
    let base = || match &facts.peer {
        Some(peer) => peer.clone(),
        None => likely_identity(connection, snapshot),
    };
    match values {
        Values::Principals(list) => {
            let base = base();
            let named = list.iter().take(MAX_TRIED);
            named.filter_map(|value| principal(value, &base, facts)).collect()
        }
        Values::Namespaces(list) => {
            let base = base();
            let named = list.iter().take(MAX_TRIED);
            named.filter_map(|value| namespace(value, &base, facts)).collect()
        }
        Values::ServiceAccounts(list) => {
            let base = base();
            let named = list.iter().take(MAX_TRIED);
            named.filter_map(|value| account(value, &base, facts)).collect()
        }
        Values::SourceIps(list) => {
            let at = |ip| Facts {
                source_ip: ip,
                ..facts.clone()
            };
            list.iter()
                .take(MAX_TRIED)
                .map(|block| in_block(block, at))
                .collect()
        }
        Values::DestinationIps(list) => {
            let at = |ip| Facts {
                destination: SocketAddr::new(ip, facts.destination.port()),
                ..facts.clone()
            };
            list.iter()
                .take(MAX_TRIED)
                .map(|block| in_block(block, at))
                .collect()
        }
        Values::DestinationPorts(list) => {
            let at = |port: &u16| Candidate {
                facts: at_port(facts, *port),
                value: port.to_string(),
                example: None,
                is_any_identity: false,
            };
            list.iter().take(MAX_TRIED).map(at).collect()
        }
    }
}

fn principal(value: &StringMatch, base: &Identity, facts: &Facts) -> Option<Candidate> {
    let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let whole = parts(&base.principal());
    let identity = match value {
        StringMatch::Presence => base.clone(),
        StringMatch::Exact(text) => format!("spiffe://{text}").parse().ok()?,
        StringMatch::Prefix(text) => {
            // What is not said is as it was; a part that is begun stays if it fits, else what is said is all of it.
            let mut said = parts(text);
            let begun = said.last_mut()?;
            let same = whole.get(text.split('/').count() - 1)?;
            if same.starts_with(begun.as_str()) {
                begun.clone_from(same);
            }
            let rest = whole.iter().skip(said.len()).cloned();
            let all: Vec<_> = said.iter().cloned().chain(rest).collect();
            format!("spiffe://{}", all.join("/")).parse().ok()?
        }
        StringMatch::Suffix(text) => {
            let mut said = parts(text);
            let kept = whole.len().checked_sub(said.len())?;
            let ended = said.first_mut()?;
            let same = whole.get(kept)?;
            if same.ends_with(ended.as_str()) {
                ended.clone_from(same);
            }
            let all: Vec<_> = whole.iter().take(kept).cloned().chain(said).collect();
            format!("spiffe://{}", all.join("/")).parse().ok()?
        }
    };
    Some(called(
        value,
        identity,
        facts,
        matches!(value, StringMatch::Exact(_)),
    ))
}

fn namespace(value: &StringMatch, base: &Identity, facts: &Facts) -> Option<Candidate> {
    let namespace = match value {
        StringMatch::Presence => base.namespace(),
        StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text) => text,
    };
    let identity = Identity::try_new(base.trust_domain(), namespace, base.service_account()).ok()?;
    let says_all = matches!(value, StringMatch::Exact(_)) && facts.peer.is_some();
    Some(called(value, identity, facts, says_all))
}

fn account(value: &ServiceAccountMatch, base: &Identity, facts: &Facts) -> Option<Candidate> {
    let identity = Identity::try_new(base.trust_domain(), &value.namespace, &value.service_account).ok()?;
    Some(Candidate {
        value: value.to_string(),
        example: facts.peer.is_none().then(|| identity.principal()),
        facts: called_by(facts, identity),
        is_any_identity: false,
    })
}

fn called(value: &StringMatch, identity: Identity, facts: &Facts, says_all: bool) -> Candidate {
    Candidate {
        value: value.to_string(),
        example: (!says_all).then(|| identity.principal()),
        facts: called_by(facts, identity),
        is_any_identity: *value == StringMatch::Presence,
    }
}

fn called_by(facts: &Facts, identity: Identity) -> Facts {
    Facts {
        peer: Some(identity),
        ..facts.clone()
    }
}

fn at_port(facts: &Facts, port: u16) -> Facts {
    Facts {
        destination: SocketAddr::new(facts.destination.ip(), port),
        ..facts.clone()
    }
}

fn in_block(block: &IpPrefix, at: impl Fn(IpAddr) -> Facts) -> Candidate {
    // The very first address of all stands for one that is not known.
    let first = match block.address() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::from_bits(1)),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Candidate {
        facts: at(first),
        value: block.to_string(),
        example: (!block.is_host()).then(|| first.to_string()),
        is_any_identity: false,
    }
}

/// Connections of which no value of the list fits, though one fits now.
fn avoiding(values: &Values, facts: &Facts) -> Vec<Candidate> {
    let text = facts.attributes().text(values.attribute()).unwrap_or_default();
    match values {
        Values::Principals(_) | Values::Namespaces(_) | Values::ServiceAccounts(_) => {
            let identities = facts.peer.as_ref().map(|peer| others(values.attribute(), peer));
            let other = |identity: Identity| Candidate {
                value: text.clone(),
                example: Some(identity.principal()),
                facts: called_by(facts, identity),
                is_any_identity: false,
            };
            identities.into_iter().flatten().map(other).collect()
        }
        Values::SourceIps(list) => {
            let other = |(block, ip): (IpPrefix, IpAddr)| Candidate {
                value: block.to_string(),
                example: Some(ip.to_string()),
                facts: Facts {
                    source_ip: ip,
                    ..facts.clone()
                },
                is_any_identity: false,
            };
            outside(list, facts.source_ip).map(other).into_iter().collect()
        }
        Values::DestinationIps(list) => {
            let other = |(block, ip): (IpPrefix, IpAddr)| Candidate {
                value: block.to_string(),
                example: Some(ip.to_string()),
                facts: Facts {
                    destination: SocketAddr::new(ip, facts.destination.port()),
                    ..facts.clone()
                },
                is_any_identity: false,
            };
            outside(list, facts.destination.ip())
                .map(other)
                .into_iter()
                .collect()
        }
        Values::DestinationPorts(list) => {
            let port = facts.destination.port();
            let next = (1..=u16::MAX).map(|step| port.wrapping_add(step));
            let free = next
                .take(MAX_BLOCKS)
                .find(|port| *port != 0 && !list.contains(port));
            let other = |port: u16| Candidate {
                value: text.clone(),
                example: Some(port.to_string()),
                facts: at_port(facts, port),
                is_any_identity: false,
            };
            free.map(other).into_iter().collect()
        }
    }
}

/// Other identities than this, near ones first.
fn others(attribute: Attribute, peer: &Identity) -> Vec<Identity> {
    let (domain, namespace, account) = (peer.trust_domain(), peer.namespace(), peer.service_account());
    let other = |namespace: &str, account: &str| Identity::new(domain, namespace, account);
    match attribute {
        Attribute::Namespace => vec![other(DEFAULT, account), other("another-namespace", account)],
        _ => vec![
            other(namespace, DEFAULT),
            other(namespace, "another-account"),
            other(DEFAULT, account),
            other("another-namespace", "another-account"),
        ],
    }
}

/// The widest block of the list that the address is in, and an address just outside it.
fn outside(list: &[IpPrefix], ip: IpAddr) -> Option<(IpPrefix, IpAddr)> {
    let around = list.iter().take(MAX_BLOCKS).filter(|block| block.contains(ip));
    let widest = *around.min_by_key(|block| block.length())?;
    let last_bit = widest.length().checked_sub(1)?;
    let beside = match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ (1 << (31 - last_bit)))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ (1 << (127 - last_bit)))),
    };
    Some((widest, beside))
}
