//! An answer for machines.

use mesh::Verdict;
use serde_json::{Value, json};

use super::{Answer, EndpointAnswer};

impl Answer {
    /// The answer as JSON; `docs/policy.md` explains each field.
    pub fn to_json(&self) -> Value {
        let decisive = self.decisive();
        let mut answer = endpoint(decisive);
        answer["verdict"] = word(self.verdict).into();
        answer["from"] = self.caller.as_str().into();
        answer["to"] = self.target.as_str().into();
        answer["endpoints"] = self.endpoints.iter().map(endpoint).collect();
        answer["notes"] = self.notes.iter().map(String::as_str).collect();
        answer
    }
}

fn endpoint(answer: &EndpointAnswer) -> Value {
    let deciding = answer.deciding();
    json!({
        "pod": answer.pod,
        "address": answer.address.to_string(),
        "verdict": word(answer.verdict()),
        "policy": deciding.as_ref().map(|deciding| &deciding.name),
        "kind": deciding.as_ref().and_then(|deciding| deciding.kind.as_ref()),
        "rule": deciding.as_ref().and_then(|deciding| deciding.rule),
        "code": answer.code(),
        "reason": answer.reason(),
    })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}
