//! The parts of a rule: clauses, matches, and the conditions that a match names.

use std::fmt;
use std::sync::Arc;

use super::index::{AccountIndex, BlockIndex, INDEXED_FROM, PortIndex, StringIndex};
use crate::address::IpPrefix;

/// Matches when all its clauses do; without clauses always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Matches when any of its matches does; without matches always.
#[derive(Debug, Clone, Default)]
pub struct Clause {
    matches: Vec<Match>,
    pub(super) index: Option<Box<ClauseIndex>>,
}

/// Holds when every condition in it does; without any never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    conditions: Vec<Condition>,
}

/// What a match says of one attribute: that one of the values fits, or that none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// None of the values may fit. An attribute that the caller lacks has no value, so nothing fits it.
    pub negated: bool,
    /// The values.
    pub values: Values,
}

/// Values of one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Of the caller's namespace.
    Namespaces(Strings),
    /// Of the caller's account, in any trust domain.
    ServiceAccounts(Accounts),
    /// Of the caller's identity without `spiffe://`.
    Principals(Strings),
    /// Of the address the caller connects from.
    SourceIps(Blocks),
    /// Of the destination's own address.
    DestinationIps(Blocks),
    /// Of the application's port.
    DestinationPorts(Ports),
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// The caller's namespace.
    Namespace,
    /// The caller's account, in any trust domain.
    ServiceAccount,
    /// The caller's identity without `spiffe://`.
    Principal,
    /// The address the caller connects from.
    SourceIp,
    /// The destination's own address.
    DestinationIp,
    /// The application's port.
    DestinationPort,
}

/// A list of string matches, indexed when it is long.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    list: Vec<StringMatch>,
    pub(super) index: Option<Box<StringIndex>>,
}

/// A list of accounts, indexed when it is long.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    list: Vec<ServiceAccountMatch>,
    pub(super) index: Option<Box<AccountIndex>>,
}

/// A list of address blocks, indexed when it is long.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    list: Vec<IpPrefix>,
    pub(super) index: Option<Box<BlockIndex>>,
}

/// A list of ports, indexed when it is long.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    list: Vec<u16>,
    pub(super) index: Option<Box<PortIndex>>,
}

/// How a string is compared. `Display` is as in an `AuthorizationPolicy`: `text`, `text*`, `*text`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The same.
    Exact(Arc<str>),
    /// It begins so.
    Prefix(Arc<str>),
    /// It ends so.
    Suffix(Arc<str>),
    /// It is not empty.
    Presence,
}

/// An exact service account, of any trust domain. `Display` is `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub service_account: Arc<str>,
}

/// The matches of a long clause that ask for one attribute and nothing else, taken together.
#[derive(Debug, Clone, Default)]
pub(super) struct ClauseIndex {
    pub(super) namespaces: StringIndex,
    pub(super) principals: StringIndex,
    pub(super) service_accounts: AccountIndex,
    pub(super) sources: BlockIndex,
    pub(super) destinations: BlockIndex,
    pub(super) ports: PortIndex,
    /// The positions of all others.
    pub(super) others: Vec<usize>,
}

impl Clause {
    /// A clause of these matches.
    pub fn new(matches: Vec<Match>) -> Self {
        let index = (matches.len() >= INDEXED_FROM).then(|| Box::new(ClauseIndex::new(&matches)));
        Self { matches, index }
    }

    /// The matches, in the order of the policy.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }
}

impl Match {
    /// A match of these conditions. One without values is as if it were not there.
    pub fn new(conditions: Vec<Condition>) -> Self {
        let named = |condition: &Condition| !condition.values.is_empty();
        Self {
            conditions: conditions.into_iter().filter(named).collect(),
        }
    }

    /// The conditions; each has values.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

impl Condition {
    /// What it is about.
    pub fn attribute(&self) -> Attribute {
        self.values.attribute()
    }
}

impl Values {
    /// What they are values of.
    pub fn attribute(&self) -> Attribute {
        match self {
            Self::Namespaces(_) => Attribute::Namespace,
            Self::ServiceAccounts(_) => Attribute::ServiceAccount,
            Self::Principals(_) => Attribute::Principal,
            Self::SourceIps(_) => Attribute::SourceIp,
            Self::DestinationIps(_) => Attribute::DestinationIp,
            Self::DestinationPorts(_) => Attribute::DestinationPort,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Namespaces(list) | Self::Principals(list) => list.len(),
            Self::ServiceAccounts(list) => list.len(),
            Self::SourceIps(list) | Self::DestinationIps(list) => list.len(),
            Self::DestinationPorts(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `most`, as people write them.
    pub fn texts(&self, most: usize) -> Vec<String> {
        fn of<T: fmt::Display>(list: &[T], most: usize) -> Vec<String> {
            list.iter().take(most).map(T::to_string).collect()
        }
        match self {
            Self::Namespaces(list) | Self::Principals(list) => of(list, most),
            Self::ServiceAccounts(list) => of(list, most),
            Self::SourceIps(list) | Self::DestinationIps(list) => of(list, most),
            Self::DestinationPorts(list) => of(list, most),
        }
    }

    /// Whether a value tells one identity from another: all but "any identity" do.
    pub(super) fn names_callers(&self) -> bool {
        match self {
            Self::Namespaces(list) | Self::Principals(list) => {
                list.iter().any(|one| *one != StringMatch::Presence)
            }
            Self::ServiceAccounts(_) => true,
            Self::SourceIps(_) | Self::DestinationIps(_) | Self::DestinationPorts(_) => false,
        }
    }
}

impl ClauseIndex {
    fn new(matches: &[Match]) -> Self {
        let (mut namespaces, mut principals, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sources, mut destinations, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        let mut others = Vec::new();
        for (position, one) in matches.iter().enumerate() {
            match one.conditions() {
                [
                    Condition {
                        negated: false,
                        values,
                    },
                ] => match values {
                    Values::Namespaces(list) => namespaces.extend(list.iter()),
                    Values::Principals(list) => principals.extend(list.iter()),
                    Values::ServiceAccounts(list) => accounts.extend(list.iter()),
                    Values::SourceIps(list) => sources.extend(list.iter()),
                    Values::DestinationIps(list) => destinations.extend(list.iter()),
                    Values::DestinationPorts(list) => ports.extend(list.iter()),
                },
                _ => others.push(position),
            }
        }
        Self {
            namespaces: StringIndex::new(namespaces),
            principals: StringIndex::new(principals),
            service_accounts: AccountIndex::new(accounts),
            sources: BlockIndex::new(sources),
            destinations: BlockIndex::new(destinations),
            ports: PortIndex::new(ports),
            others,
        }
    }
}

/// The index follows from the matches.
impl PartialEq for Clause {
    fn eq(&self, other: &Self) -> bool {
        self.matches == other.matches
    }
}

impl Eq for Clause {}

macro_rules! list {
    ($list:ident of $item:ident by $index:ident) => {
        impl From<Vec<$item>> for $list {
            fn from(list: Vec<$item>) -> Self {
                let index = (list.len() >= INDEXED_FROM).then(|| Box::new($index::new(&list)));
                Self { list, index }
            }
        }

        impl std::ops::Deref for $list {
            type Target = [$item];

            fn deref(&self) -> &[$item] {
                &self.list
            }
        }

        /// The index follows from the list.
        impl PartialEq for $list {
            fn eq(&self, other: &Self) -> bool {
                self.list == other.list
            }
        }

        impl Eq for $list {}
    };
}

list!(Strings of StringMatch by StringIndex);
list!(Accounts of ServiceAccountMatch by AccountIndex);
list!(Blocks of IpPrefix by BlockIndex);
list!(Ports of u16 by PortIndex);

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Presence => f.write_str("*"),
        }
    }
}

impl fmt::Display for ServiceAccountMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

impl Attribute {
    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "source namespace",
            Self::ServiceAccount => "source service account",
            Self::Principal => "source principal",
            Self::SourceIp => "source address",
            Self::DestinationIp => "destination address",
            Self::DestinationPort => "destination port",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
