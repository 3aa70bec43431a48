//! Which certificates were issued and are still valid: by whom serial numbers are found when something has to be revoked.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mesh::Identity;

use super::authenticate::Caller;
use super::observe::{IssueRecord, Observer, Refusal};

/// How many certificates an [`IssueLog`] remembers, each in about a hundred bytes: 2 000 nodes with 50 identities each have
/// 200 000 that are valid, since each is renewed at half of its life. Beyond, those that end first are forgotten.
pub const MAX_REMEMBERED: usize = 500_000;
/// The longest name of a node: a DNS subdomain name (RFC 1123).
const MAX_NODE_NAME: usize = 253;

/// Remembers what this process has issued, until it has expired and is forgotten.
pub struct IssueLog {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the end in seconds since 1970 and the serial number.
    issues: BTreeMap<(u64, u128), Issue>,
    /// How many were issued.
    count: u64,
    callers: HashSet<Arc<Caller>>,
    forgotten_until: Option<SystemTime>,
}

struct Issue {
    at: SystemTime,
    number: u64,
    identity: Identity,
    caller: Arc<Caller>,
}

/// A certificate that was issued and is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number, as logs write it.
    pub serial: String,
    /// Whom it names.
    pub identity: Identity,
    /// Who asked for it.
    pub caller: Arc<Caller>,
    /// When it was issued.
    pub at: SystemTime,
    /// That of the first that this process issued is 0, and that of each further one greater by 1.
    pub number: u64,
    /// When it ends, in whole seconds.
    pub not_after: SystemTime,
}

/// Some of the certificates that were issued.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Those that name this identity.
    Identity(Identity),
    /// Those that somebody on this node asked for: its node proxy, for the workloads there, or a workload itself.
    Node(String),
}

/// The text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' selects no certificates: write `identity spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT` or `node NAME`"
)]
pub struct SelectionError(String);

impl Default for IssueLog {
    fn default() -> Self {
        Self::with_capacity(MAX_REMEMBERED)
    }
}

impl IssueLog {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
        }
    }

    /// The certificates of `selection` that are valid at `now`, those that end first first; all, without one.
    pub fn valid(&self, now: SystemTime, selection: Option<&Selection>) -> Vec<Issued> {
        let state = self.state();
        let valid = state.issues.range((seconds(now) + 1, 0)..);
        let wanted = valid.filter(|(_, issue)| {
            selection.is_none_or(|selection| selection.contains(&issue.identity, &issue.caller))
        });
        let issued = wanted.map(|((not_after, serial), issue)| Issued {
            serial: format!("{serial:032x}"),
            identity: issue.identity.clone(),
            caller: issue.caller.clone(),
            at: issue.at,
            number: issue.number,
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(*not_after),
        });
        issued.collect()
    }

    /// When the last of those ends that found no room, if there are such.
    pub fn forgotten_until(&self, now: SystemTime) -> Option<SystemTime> {
        self.state().forgotten_until.filter(|until| now < *until)
    }

    /// How many this process has issued: the number of the next one.
    pub fn count(&self) -> u64 {
        self.state().count
    }

    /// When the last of these ends, as far as they are remembered.
    pub fn ends(&self, serials: &[String]) -> Option<SystemTime> {
        let numbers = serials
            .iter()
            .filter_map(|text| u128::from_str_radix(text, 16).ok());
        let wanted: HashSet<u128> = numbers.collect();
        let state = self.state();
        let mut latest = state.issues.keys().rev();
        let last = latest.find(|(_, serial)| wanted.contains(serial));
        last.map(|(end, _)| SystemTime::UNIX_EPOCH + Duration::from_secs(*end))
    }

    /// Forgets what has expired. By whoever knows how far the clock is to be believed: see [`super::SettledClock`].
    pub fn forget_expired(&self, now: SystemTime) {
        self.state().forget_expired(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for IssueLog {
    fn issued(&self, issue: &IssueRecord) {
        // This authority gives no other serial numbers.
        let Ok(serial) = u128::from_str_radix(&issue.serial, 16) else {
            return;
        };
        let mut state = self.state();
        if state.issues.len() >= self.capacity
            && let Some(until) = state.forget_first()
        {
            state.forgotten_until = state.forgotten_until.max(Some(until));
        }
        let caller = match state.callers.get(&issue.caller) {
            Some(caller) => caller.clone(),
            None => {
                let caller = Arc::new(issue.caller.clone());
                state.callers.insert(caller.clone());
                caller
            }
        };
        let number = state.count;
        state.count += 1;
        let remembered = Issue {
            at: issue.at,
            number,
            identity: issue.identity.clone(),
            caller,
        };
        state
            .issues
            .insert((seconds(issue.not_after), serial), remembered);
    }

    fn refused(&self, _: &Refusal) {}
}

impl State {
    fn forget_expired(&mut self, now: SystemTime) {
        let now = seconds(now);
        while self
            .issues
            .first_key_value()
            .is_some_and(|((end, _), _)| *end <= now)
        {
            self.forget_first();
        }
    }

    /// Forgets the one that ends first; when that is.
    fn forget_first(&mut self) -> Option<SystemTime> {
        let ((end, _), issue) = self.issues.pop_first()?;
        // This one and the set's.
        if Arc::strong_count(&issue.caller) == 2 {
            self.callers.remove(&issue.caller);
        }
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
    }
}

impl Selection {
    fn contains(&self, identity: &Identity, caller: &Caller) -> bool {
        match self {
            Self::Identity(wanted) => wanted == identity,
            Self::Node(node) => *node == caller.node,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => write!(f, "identity {identity}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        let shown = || {
            SelectionError(
                text.chars()
                    .take(MAX_NODE_NAME)
                    .collect::<String>()
                    .escape_default()
                    .to_string(),
            )
        };
        let (kind, name) = text.split_once(' ').ok_or_else(shown)?;
        match kind {
            "identity" => name.parse().map(Self::Identity).map_err(|_| shown()),
            "node" => {
                let is_name =
                    |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || b"-.".contains(&one);
                let is_good = !name.is_empty() && name.len() <= MAX_NODE_NAME && name.bytes().all(is_name);
                is_good.then(|| Self::Node(name.to_owned())).ok_or_else(shown)
            }
            _ => Err(shown()),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
