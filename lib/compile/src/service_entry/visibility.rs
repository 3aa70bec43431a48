//! Who may see a ServiceEntry.

use objects::{Metadata, ServiceEntry};

use crate::condition::{
    ACCEPTED, Condition, PATTERN_NEEDS_WAYPOINT, UNSUPPORTED_VALUE, VISIBILITY_APPLIED, WAYPOINT_MISSING,
};
use crate::settings::Settings;

/// Who may see a ServiceEntry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody.
    #[default]
    Public,
    /// Its own namespace.
    Namespace,
    /// Nobody.
    None,
}

impl Visibility {
    /// As `exportTo` says, else the settings. What node proxies cannot be told, a list of other namespaces, is seen by
    /// everybody.
    pub(crate) fn of(settings: &Settings, metadata: &Metadata, entry: &ServiceEntry) -> Visibility {
        let is_own = |name: &str| name == "." || name == metadata.namespace;
        if entry.export_to.is_empty() {
            settings.service_entry_visibility
        } else if entry.export_to.iter().all(|name| name == "~") {
            Visibility::None
        } else if entry.export_to.iter().all(|name| is_own(name) || name == "~") {
            Visibility::Namespace
        } else {
            Visibility::Public
        }
    }
}

/// What became of `exportTo`, where it was given.
pub(super) fn condition(settings: &Settings, metadata: &Metadata, entry: &ServiceEntry) -> Option<Condition> {
    if entry.export_to.is_empty() {
        return None;
    }
    let others: Vec<&str> = entry.export_to.iter().map(String::as_str).collect();
    let is_word = |name: &&str| [".", "*", "~", metadata.namespace.as_str()].contains(name);
    let is_listed = !others.contains(&"*") && !others.iter().all(is_word);
    let (status, reason, message) = match Visibility::of(settings, metadata, entry) {
        _ if is_listed => (
            false,
            UNSUPPORTED_VALUE,
            format!(
                "node proxies know all namespaces or the own one, so everybody sees it, not only {}",
                others.join(", ")
            ),
        ),
        Visibility::Public => (true, ACCEPTED, "all namespaces see it".to_owned()),
        Visibility::Namespace => (true, ACCEPTED, "only its own namespace sees it".to_owned()),
        Visibility::None => (true, ACCEPTED, "nobody sees it: it is not sent".to_owned()),
    };
    Some(Condition {
        kind: VISIBILITY_APPLIED,
        status,
        reason,
        message,
        observed_generation: metadata.generation,
    })
}

/// That a host needs a waypoint and has none.
pub(super) fn waypoint_missing(metadata: &Metadata, host: &str) -> Condition {
    Condition {
        kind: WAYPOINT_MISSING,
        status: true,
        reason: PATTERN_NEEDS_WAYPOINT,
        message: format!(
            "a node proxy cannot tell which name of {host} is meant, so connections to it are refused: name a waypoint"
        ),
        observed_generation: metadata.generation,
    }
}
