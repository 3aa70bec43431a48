//! How the authority's roots stand, as JSON.

use std::time::SystemTime;

use ca::rotation::{Blocker, Phase, RotationStatus, root_life};
use ca::{StoredAuthority, certificate_fingerprint};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How many of what is waited for are listed.
const MAX_LISTED: usize = 1000;

pub(super) fn of(
    kept: &StoredAuthority,
    status: &RotationStatus,
    retired: &[String],
    is_leader: bool,
    failure: Option<&str>,
) -> Value {
    let mut roots = vec![root(&kept.current.certificate, "signs")];
    roots.extend(
        kept.next
            .iter()
            .map(|next| root(&next.certificate, "will sign next")),
    );
    roots.extend(
        kept.previous
            .iter()
            .map(|previous| root(previous, "has signed before")),
    );
    let acknowledged = match status.phase {
        Phase::Steady => json!(null),
        Phase::Introduced | Phase::Switched => json!(status.done),
    };
    json!({
        "phase": status.phase,
        "since": at(status.since),
        "generation": status.generation,
        "leader": is_leader,
        "roots": roots,
        "retired": retired.iter().map(|one| root(one, "is retired")).collect::<Vec<_>>(),
        "holders": status.holders,
        "acknowledged": acknowledged,
        "blockers": status.blockers.iter().take(MAX_LISTED).map(blocker).collect::<Vec<_>>(),
        "moreBlockers": status.blockers.len().saturating_sub(MAX_LISTED),
        "failure": failure,
    })
}

fn root(certificate: &str, role: &str) -> Value {
    json!({
        "role": role,
        "fingerprint": certificate_fingerprint(certificate),
        "notAfter": root_life(certificate).map(|life| at(life.not_after)),
    })
}

fn blocker(blocker: &Blocker) -> Value {
    let holder = blocker.holder();
    json!({
        "code": blocker.code(),
        "replica": match blocker {
            Blocker::Replica { name, .. } => Some(name),
            _ => None,
        },
        "node": holder.map(|holder| &holder.node),
        "pod": holder.map(|holder| format!("{}/{}", holder.namespace, holder.pod)),
        "until": at(blocker.until()),
        "reason": blocker.to_string(),
    })
}

/// In whole seconds; nothing for a time that the format has no words for.
pub(crate) fn at(time: SystemTime) -> Option<String> {
    let time = OffsetDateTime::from(time).replace_nanosecond(0).ok()?;
    time.format(&Rfc3339).ok()
}
