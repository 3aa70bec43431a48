//! Values of attributes, and how sets of them lie to each other.

use objects::IpBlock;

/// Stands for a set of values.
pub(crate) trait Value: Clone {
    /// Whether every value of `other` is one of these.
    fn covers(&self, other: &Self) -> bool;
    /// Whether no value is in both.
    fn is_disjoint(&self, other: &Self) -> bool;
    /// Whether no connection has such a value.
    fn is_impossible(&self) -> bool {
        false
    }
}

/// Strings, as policies match them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// No string: a principal that is no identity's.
    Nothing,
    /// Every string that is not empty.
    Presence,
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
    /// Those that end so.
    Suffix(String),
}

/// A service account of any trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The trust domain, namespace and account of an identity without its scheme.
pub(crate) fn identity(principal: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = principal.split('/').collect();
    match parts.as_slice() {
        [domain, "ns", namespace, "sa", account]
            if ![domain, namespace, account].iter().any(|part| part.is_empty()) =>
        {
            Some((domain, namespace, account))
        }
        _ => None,
    }
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        if text == "*" {
            Pattern::Presence
        } else if let Some(suffix) = text.strip_prefix('*') {
            Pattern::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Pattern::Prefix(prefix.to_owned())
        } else {
            Pattern::Exact(text.to_owned())
        }
    }

    /// The patterns of a principal, which has a form. One of the mesh's own trust domains means the same workload in each
    /// of them.
    pub(crate) fn principals(text: &str, trust_domains: &[String]) -> Vec<Pattern> {
        let pattern = Pattern::new(text);
        let make: fn(String) -> Pattern = match &pattern {
            Pattern::Exact(exact) if identity(exact).is_none() => return vec![Pattern::Nothing],
            Pattern::Exact(_) => Pattern::Exact,
            Pattern::Prefix(_) => Pattern::Prefix,
            _ => return vec![pattern],
        };
        let (Pattern::Exact(text) | Pattern::Prefix(text)) = &pattern else {
            return vec![pattern];
        };
        match text.split_once('/') {
            Some((domain, rest)) if trust_domains.iter().any(|own| own == domain) => {
                let own = trust_domains.iter();
                own.map(|own| make(format!("{own}/{rest}"))).collect()
            }
            _ => vec![pattern],
        }
    }

    /// The namespace that every principal of this pattern is of.
    pub(crate) fn namespace(&self) -> Option<Pattern> {
        match self {
            Pattern::Nothing => Some(Pattern::Nothing),
            Pattern::Exact(text) => {
                identity(text).map(|(_, namespace, _)| Pattern::Exact(namespace.to_owned()))
            }
            Pattern::Prefix(text) => match text.split('/').collect::<Vec<_>>().as_slice() {
                // What follows the namespace's own slash may be cut anywhere.
                [_, "ns", namespace, _, ..] => Some(Pattern::Exact((*namespace).to_owned())),
                _ => None,
            },
            Pattern::Presence | Pattern::Suffix(_) => None,
        }
    }

    /// The account that every principal of this pattern is.
    pub(crate) fn account(&self) -> Option<Account> {
        match self {
            Pattern::Exact(text) => identity(text).map(|(_, namespace, name)| Account {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => None,
        }
    }
}

impl Value for Pattern {
    fn covers(&self, other: &Pattern) -> bool {
        use Pattern::{Exact, Nothing, Prefix, Presence, Suffix};
        match (self, other) {
            (_, Nothing) => true,
            (Nothing, _) => false,
            (Presence, Exact(text)) => !text.is_empty(),
            (Presence, _) => true,
            (Exact(one), Exact(other)) => one == other,
            (Prefix(prefix), Exact(text) | Prefix(text)) => text.starts_with(prefix),
            (Suffix(suffix), Exact(text) | Suffix(text)) => text.ends_with(suffix),
            _ => false,
        }
    }

    fn is_disjoint(&self, other: &Pattern) -> bool {
        use Pattern::{Exact, Nothing, Prefix, Suffix};
        match (self, other) {
            (Nothing, _) | (_, Nothing) => true,
            (Exact(one), Exact(other)) => one != other,
            (Exact(text), Prefix(prefix)) | (Prefix(prefix), Exact(text)) => !text.starts_with(prefix),
            (Exact(text), Suffix(suffix)) | (Suffix(suffix), Exact(text)) => !text.ends_with(suffix),
            (Prefix(one), Prefix(other)) => !one.starts_with(other) && !other.starts_with(one),
            (Suffix(one), Suffix(other)) => !one.ends_with(other) && !other.ends_with(one),
            _ => false,
        }
    }

    fn is_impossible(&self) -> bool {
        *self == Pattern::Nothing
    }
}

impl Value for Account {
    fn covers(&self, other: &Account) -> bool {
        self == other
    }

    fn is_disjoint(&self, other: &Account) -> bool {
        self != other
    }
}

impl Value for u16 {
    fn covers(&self, other: &u16) -> bool {
        self == other
    }

    fn is_disjoint(&self, other: &u16) -> bool {
        self != other
    }
}

impl Value for IpBlock {
    fn covers(&self, other: &IpBlock) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    fn is_disjoint(&self, other: &IpBlock) -> bool {
        // Prefixes lie inside of each other or apart.
        !self.covers(other) && !other.covers(self)
    }
}
