//! An answer for machines.

use mesh::Decision;
use mesh::authorize::{DryRun, NotEnforced};
use serde_json::{Value, json};

use super::{Answer, EndpointAnswer, Ground};

impl Answer {
    /// The answer as JSON; `docs/policy.md` explains each field.
    pub fn to_json(&self) -> Value {
        let mut answer = endpoint(self.decisive());
        answer["verdict"] = self.verdict.as_str().into();
        answer["from"] = self.caller.as_str().into();
        answer["to"] = self.target.as_str().into();
        answer["endpoints"] = self.endpoints.iter().map(endpoint).collect();
        answer["notes"] = self.notes.iter().map(String::as_str).collect();
        answer
    }
}

fn endpoint(answer: &EndpointAnswer) -> Value {
    let deciding = answer.deciding();
    let decision = match &answer.ground {
        Ground::Decided(decision) => Some(&**decision),
        Ground::NotInMesh(_) | Ground::Itself | Ground::WaypointUnusable(_) => None,
    };
    let miss = decision.and_then(|decision| decision.nearest_miss.as_ref());
    json!({
        "pod": answer.pod,
        "address": answer.address.to_string(),
        "verdict": answer.verdict().as_str(),
        "policy": deciding.as_ref().map(|deciding| &deciding.name),
        "kind": deciding.as_ref().and_then(|deciding| deciding.kind.as_ref()),
        "rule": deciding.as_ref().and_then(|deciding| deciding.rule),
        "code": answer.code(),
        "reason": answer.reason(),
        "nearest_miss": miss.map(ToString::to_string),
        "dry_run": list(decision, |decision| decision.dry_run.iter().map(dry_run).collect()),
        "not_enforced": list(decision, |decision| decision.not_enforced.iter().map(not_enforced).collect()),
    })
}

fn list(decision: Option<&Decision>, made: impl FnOnce(&Decision) -> Vec<Value>) -> Vec<Value> {
    decision.map(made).unwrap_or_default()
}

fn dry_run(tried: &DryRun) -> Value {
    json!({
        "policy": tried.policy.name(),
        "rule": tried.rule,
        "verdict": tried.verdict.as_str(),
        "not_understood": tried.not_understood.as_deref(),
    })
}

fn not_enforced(part: &NotEnforced) -> Value {
    let attributes: Vec<&str> = part.attributes.iter().map(|attribute| &**attribute).collect();
    json!({
        "policy": part.policy.name(),
        "rule": part.rule,
        "attributes": attributes,
        "effect": part.effect.to_string(),
    })
}
