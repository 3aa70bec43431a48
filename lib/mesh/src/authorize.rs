//! Whether an inbound connection may pass, and why.
//!
//! The order: nothing passes before the first complete set of policies. A matching DENY refuses; so does a
//! policy that selects the workload and is not understood or not known. Without any ALLOW policy the connection
//! passes; with some, one of them has to match. Dry-run policies are evaluated beside this and decide nothing.
//!
//! [`authorize`] says what decided; [`explain`] walks the same policies with the same matching and keeps all of it.

mod decide;
mod explain;
mod named;
mod nearest;
mod reason;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use decide::MAX_NOT_ENFORCED;
pub use explain::{
    ExplainedClause, ExplainedMatch, ExplainedPolicy, ExplainedRule, Explanation, FailedCondition,
    MAX_WANTED, PolicyOutcome, SelectedBy, explain,
};
pub use named::{NamedPolicy, NotEnforced};
pub use nearest::{Difference, Facts, MAX_TRIALS, MAX_VALUES, NearestMiss};
pub use reason::{MAX_NAMED_POLICIES, Reason};

use crate::identity::Identity;
use crate::policy::Attributes;
use crate::snapshot::Snapshot;
use crate::workload::Workload;
use decide::Selection;

/// What is decided about.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Who calls: the identity in the certificate of this very session; none for plaintext.
    pub peer: Option<&'a Identity>,
    /// The address the caller connects from. The unspecified address stands for one that is not known, in questions
    /// about callers that need not exist: it is in no block, so no positive list holds and every negative one does.
    pub source_ip: IpAddr,
    /// The destination.
    pub workload: &'a Workload,
    /// The destination's own address, and the port of the application.
    pub destination: SocketAddr,
}

/// What was decided, and on what ground. `Display` is the reason and the nearest miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Pass or not.
    pub verdict: Verdict,
    /// The deciding policy and rule, or the default that applied.
    pub reason: Reason,
    /// The snapshot's revision that this rests on.
    pub revision: u64,
    /// The smallest change found with which a refused connection would pass.
    pub nearest_miss: Option<NearestMiss>,
    /// Parts of policies that select the workload and that nobody enforces; at most [`MAX_NOT_ENFORCED`].
    pub not_enforced: Vec<NotEnforced>,
    /// Policies that were tried out: they decide nothing.
    pub dry_run: Vec<DryRun>,
}

/// Pass or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The connection may pass.
    Allow,
    /// The connection is refused.
    Deny,
}

/// What one dry-run policy would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// Which.
    pub policy: NamedPolicy,
    /// The rule that matches, of the object, counted from 0.
    pub rule: Option<usize>,
    /// The verdict if this policy were enforced beside those that are.
    pub verdict: Verdict,
    /// What of it was not understood; enforced, it would then refuse everybody.
    pub not_understood: Option<Arc<str>>,
}

impl Decision {
    /// Whether the connection may pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(miss) = &self.nearest_miss {
            write!(f, "; {miss}")?;
        }
        Ok(())
    }
}

/// `shop/try (generation 2) would deny; its rule 0 matches`.
impl std::fmt::Display for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} would {}", self.policy, self.verdict)?;
        match (&self.not_understood, self.rule) {
            (Some(reason), _) => write!(f, ", as it was not understood: {reason}"),
            (None, Some(rule)) => write!(f, "; its rule {rule} matches"),
            (None, None) => f.write_str("; it does not match"),
        }
    }
}

impl Verdict {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides whether a connection may pass.
pub fn authorize(connection: &Connection<'_>, snapshot: &Snapshot) -> Decision {
    decision(
        connection,
        &Selection::new(connection.workload, snapshot),
        snapshot,
    )
}

fn decision(connection: &Connection<'_>, selection: &Selection<'_>, snapshot: &Snapshot) -> Decision {
    let attributes = Attributes::new(connection.peer, connection.source_ip, connection.destination);
    let ground = selection.decide(&attributes);
    let verdict = ground.verdict();
    Decision {
        verdict,
        reason: selection.reason(&ground, connection),
        revision: snapshot.revision(),
        nearest_miss: match verdict {
            Verdict::Allow => None,
            Verdict::Deny => nearest::nearest_miss(connection, &attributes, selection, &ground, snapshot),
        },
        not_enforced: selection.not_enforced(),
        dry_run: selection.dry_runs(&attributes, &ground),
    }
}
