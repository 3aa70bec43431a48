//! Rules as sets of connections, to say when one covers another and when one can never match.
//!
//! A rule is a union of cubes; a cube is a conjunction of lists of alternatives and of exclusions. `covers` and
//! `is_empty` answer yes only when it is so; they may answer no when it takes more than comparing pairs to see.

use objects::{Action, IpBlock, Matches, Rule, ServiceAccountRef, Source, Test};

mod value;

use value::Value;
pub(crate) use value::{Account, Pattern, identity};

/// How many cubes a rule may have; a larger one is not compared.
const MAX_CUBES: usize = 1024;

/// A conjunction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cube {
    principals: Lists<Pattern>,
    namespaces: Lists<Pattern>,
    accounts: Lists<Account>,
    sources: Lists<IpBlock>,
    destinations: Lists<IpBlock>,
    ports: Lists<u16>,
}

/// What is asked of one attribute: a value out of each of the first, and none of the second.
#[derive(Clone, Debug)]
struct Lists<T> {
    any: Vec<Vec<T>>,
    none: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Lists<T> {
        Lists {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

/// What a rule matches; `None`: too much to compare, or not all of it can be read. In an ALLOW, a rule with HTTP attributes matches nothing; from a
/// DENY they are erased, and a part of which nothing is left matches nothing.
pub(crate) fn cubes(
    rule: &Rule,
    action: Action,
    namespace: &str,
    trust_domains: &[String],
) -> Option<Vec<Cube>> {
    if !action.is_supported() || rule.unreadable_parts().next().is_some() {
        return None;
    }
    if action == Action::Allow && rule.http_attributes().next().is_some() {
        return Some(Vec::new());
    }
    let from: Vec<Cube> = rule
        .from
        .iter()
        .filter(|source| has_layer_4(source))
        .map(|source| of_source(source, namespace, trust_domains))
        .collect();
    let to: Vec<Cube> = rule
        .to
        .iter()
        .filter(|operation| !operation.ports.is_empty())
        .map(|operation| Cube {
            ports: Lists::of(&operation.ports, |port| *port),
            ..Cube::default()
        })
        .collect();
    let mut found = vec![Cube::default()];
    for (written, part) in [(!rule.from.is_empty(), from), (!rule.to.is_empty(), to)] {
        if !written {
            continue;
        }
        if found.len().saturating_mul(part.len()) > MAX_CUBES {
            return None;
        }
        found = found
            .iter()
            .flat_map(|left| part.iter().map(move |right| left.clone().and(right)))
            .collect();
    }
    for condition in &rule.when {
        let Some(part) = of_test(&condition.test, namespace, trust_domains) else {
            return Some(Vec::new());
        };
        found = found.into_iter().map(|cube| cube.and(&part)).collect();
    }
    Some(found)
}

/// Whether everything that `inner` matches is matched by `outer`.
pub(crate) fn all_covered(outer: &[Cube], inner: &[Cube]) -> bool {
    inner
        .iter()
        .filter(|cube| !cube.is_empty())
        .all(|cube| outer.iter().any(|wide| wide.covers(cube)))
}

/// Whether nothing can match.
pub(crate) fn all_empty(cubes: &[Cube]) -> bool {
    cubes.iter().all(Cube::is_empty)
}

/// Whether something may be matched by both.
pub(crate) fn may_meet(cubes: &[Cube], other: &Cube) -> bool {
    cubes.iter().any(|cube| !cube.clone().and(other).is_empty())
}

impl Cube {
    /// What comes from one identity, to one port when it is known.
    pub(crate) fn identified(principal: &str, port: Option<u16>) -> Cube {
        let mut cube = Cube::to_port(port);
        cube.principals
            .any
            .push(vec![Pattern::Exact(principal.to_owned())]);
        cube
    }

    /// What comes without an identity, to one port when it is known.
    pub(crate) fn plaintext(port: Option<u16>) -> Cube {
        let mut cube = Cube::to_port(port);
        cube.principals.none.push(Pattern::Presence);
        cube.namespaces.none.push(Pattern::Presence);
        cube
    }

    fn to_port(port: Option<u16>) -> Cube {
        let mut cube = Cube::default();
        cube.ports.any.extend(port.map(|port| vec![port]));
        cube
    }

    /// Whether nothing is asked.
    pub(crate) fn is_everything(&self) -> bool {
        self.principals.is_free()
            && self.namespaces.is_free()
            && self.accounts.is_free()
            && self.sources.is_free()
            && self.destinations.is_free()
            && self.ports.is_free()
    }

    /// Whether everything that `other` matches is matched.
    pub(crate) fn covers(&self, other: &Cube) -> bool {
        let other = other.clone().with_consequences();
        self.principals.follow_from(&other.principals)
            && self.namespaces.follow_from(&other.namespaces)
            && self.accounts.follow_from(&other.accounts)
            && self.sources.follow_from(&other.sources)
            && self.destinations.follow_from(&other.destinations)
            && self.ports.follow_from(&other.ports)
    }

    /// Whether nothing can match.
    pub(crate) fn is_empty(&self) -> bool {
        let all = self.clone().with_consequences();
        all.principals.contradict()
            || all.namespaces.contradict()
            || all.accounts.contradict()
            || all.sources.contradict()
            || all.destinations.contradict()
            || all.ports.contradict()
            || excludes_all(&all.sources.none)
            || excludes_all(&all.destinations.none)
    }

    fn and(mut self, other: &Cube) -> Cube {
        self.principals.and(&other.principals);
        self.namespaces.and(&other.namespaces);
        self.accounts.and(&other.accounts);
        self.sources.and(&other.sources);
        self.destinations.and(&other.destinations);
        self.ports.and(&other.ports);
        self
    }

    /// What principals say about namespaces and accounts, accounts about namespaces, and each about there being an
    /// identity at all.
    fn with_consequences(mut self) -> Cube {
        let mut namespaces = Vec::new();
        let mut accounts = Vec::new();
        for list in &self.principals.any {
            let named: Option<Vec<Pattern>> = list.iter().map(Pattern::namespace).collect();
            namespaces.extend(named.map(|names| names.into_iter().collect::<Vec<_>>()));
            accounts.extend(
                list.iter()
                    .map(Pattern::account)
                    .collect::<Option<Vec<Account>>>(),
            );
        }
        for list in &self.accounts.any {
            namespaces.push(
                list.iter()
                    .map(|account| Pattern::Exact(account.namespace.clone()))
                    .collect(),
            );
        }
        self.namespaces.any.extend(namespaces);
        self.accounts.any.extend(accounts);
        let identified = !self.principals.any.is_empty() || !self.namespaces.any.is_empty();
        if identified {
            self.principals.any.push(vec![Pattern::Presence]);
            self.namespaces.any.push(vec![Pattern::Presence]);
        }
        self
    }
}

impl<T: Value> Lists<T> {
    fn of<S>(matches: &Matches<S>, read: impl Fn(&S) -> T) -> Lists<T> {
        let mut lists = Lists::default();
        if !matches.any.is_empty() {
            lists.any.push(matches.any.iter().map(&read).collect());
        }
        lists.none = matches.none.iter().map(&read).collect();
        lists
    }

    fn is_free(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    fn and(&mut self, other: &Lists<T>) {
        self.any.extend(other.any.iter().cloned());
        self.none.extend(other.none.iter().cloned());
    }

    /// Whether whatever fulfils `other` fulfils this.
    fn follow_from(&self, other: &Lists<T>) -> bool {
        let within = |narrow: &Vec<T>, wide: &Vec<T>| {
            narrow
                .iter()
                .all(|value| wide.iter().any(|outer| outer.covers(value)))
        };
        let excluded = |value: &T| {
            other.none.iter().any(|wide| wide.covers(value))
                || other
                    .any
                    .iter()
                    .any(|list| list.iter().all(|possible| possible.is_disjoint(value)))
        };
        self.any
            .iter()
            .all(|wide| other.any.iter().any(|narrow| within(narrow, wide)))
            && self.none.iter().all(excluded)
    }

    /// Whether nothing fulfils this: each value of some list is excluded, or fits into another list nowhere.
    fn contradict(&self) -> bool {
        let impossible = |value: &T| {
            value.is_impossible()
                || self.none.iter().any(|wide| wide.covers(value))
                || self
                    .any
                    .iter()
                    .any(|list| list.iter().all(|other| other.is_disjoint(value)))
        };
        self.any.iter().any(|list| list.iter().all(impossible))
    }
}

fn has_layer_4(source: &Source) -> bool {
    !(source.principals.is_empty()
        && source.namespaces.is_empty()
        && source.service_accounts.is_empty()
        && source.ip_blocks.is_empty())
}

fn of_source(source: &Source, namespace: &str, trust_domains: &[String]) -> Cube {
    Cube {
        principals: of_principals(&source.principals, trust_domains),
        namespaces: Lists::of(&source.namespaces, |text| Pattern::new(text)),
        accounts: Lists::of(&source.service_accounts, |account| of_account(account, namespace)),
        sources: Lists::of(&source.ip_blocks, |block| *block),
        ..Cube::default()
    }
}

/// `None`: it never matches.
fn of_test(test: &Test, namespace: &str, trust_domains: &[String]) -> Option<Cube> {
    let mut cube = Cube::default();
    match test {
        Test::SourceIp(blocks) => cube.sources = Lists::of(blocks, |block| *block),
        Test::SourceNamespace(texts) => cube.namespaces = Lists::of(texts, |text| Pattern::new(text)),
        Test::SourcePrincipal(texts) => cube.principals = of_principals(texts, trust_domains),
        Test::SourceServiceAccount(accounts) => {
            cube.accounts = Lists::of(accounts, |account| of_account(account, namespace));
        }
        Test::DestinationIp(blocks) => cube.destinations = Lists::of(blocks, |block| *block),
        Test::DestinationPort(ports) => cube.ports = Lists::of(ports, |port| *port),
        Test::Http => return None,
    }
    Some(cube)
}

fn of_principals(texts: &Matches<String>, trust_domains: &[String]) -> Lists<Pattern> {
    let all = |texts: &[String]| -> Vec<Pattern> {
        let patterns = texts.iter().map(|text| Pattern::principals(text, trust_domains));
        patterns.flatten().collect()
    };
    let mut lists = Lists::default();
    if !texts.any.is_empty() {
        lists.any.push(all(&texts.any));
    }
    lists.none = all(&texts.none);
    lists
}

fn of_account(account: &ServiceAccountRef, namespace: &str) -> Account {
    Account {
        namespace: account.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: account.name.clone(),
    }
}

/// Whether these blocks are all addresses of both families.
fn excludes_all(blocks: &[IpBlock]) -> bool {
    let whole = |v4: bool| {
        blocks
            .iter()
            .any(|block| block.length == 0 && block.address.is_ipv4() == v4)
    };
    whole(true) && whole(false)
}

#[cfg(test)]
mod tests;
