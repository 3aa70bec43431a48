//! Questions about the CA: `/debug/ca` and what is below it.

use std::time::SystemTime;

use ca::{IssueLog, Selection};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rotation::{Rotations, at};

/// How many certificates are listed at most.
const MAX_LISTED: usize = 10_000;
/// The pages.
const PAGES: [&str; 7] = [
    "GET /debug/ca",
    "GET /debug/ca/issued, with ?identity=SPIFFE-ID or ?node=NAME for some",
    "POST /debug/ca/rotate",
    "POST /debug/ca/abort",
    "POST /debug/ca/revoke?serials=SERIAL,SERIAL",
    "POST /debug/ca/revoke?identity=SPIFFE-ID",
    "POST /debug/ca/revoke?node=NAME",
];

/// Answers a question about the roots, or takes a request.
pub(super) fn about_roots(
    authority: &Rotations,
    method: &Method,
    question: &str,
    query: &str,
) -> (StatusCode, Value) {
    let outcome = match (method, question) {
        (&Method::GET, "") => return (StatusCode::OK, authority.report()),
        (&Method::POST, "/rotate" | "/abort" | "/revoke") if !authority.is_leader() => {
            Err("this replica does not lead; ask the one that does".to_owned())
        }
        (&Method::POST, "/rotate") => authority.request().map_err(|error| error.to_string()),
        (&Method::POST, "/abort") => authority.abort().map_err(|error| error.to_string()),
        (&Method::POST, "/revoke") => revoke(authority, query),
        _ => {
            let error = json!({ "error": "no such page", "pages": PAGES });
            return (StatusCode::NOT_FOUND, error);
        }
    };
    match outcome {
        Ok(()) => (StatusCode::ACCEPTED, authority.report()),
        Err(refused) => (StatusCode::CONFLICT, json!({ "error": refused })),
    }
}

/// What this process has issued and is valid.
pub(super) fn issued(issues: &IssueLog, query: &str, now: SystemTime) -> (StatusCode, Value) {
    let selection = match selection(query) {
        None if !query.is_empty() => Err("write ?identity=SPIFFE-ID or ?node=NAME".to_owned()),
        selection => selection.transpose(),
    };
    let selection = match selection {
        Ok(selection) => selection,
        Err(error) => return (StatusCode::CONFLICT, json!({ "error": error })),
    };
    let found = issues.valid(now, selection.as_ref());
    let certificate = |one: &ca::IssuedCertificate| {
        json!({
            "serial": one.serial,
            "identity": one.identity.to_string(),
            "node": one.caller.node,
            "caller": format!("{}/{}", one.caller.namespace, one.caller.pod_name),
            "issued": at(one.at),
            "notAfter": at(one.not_after),
        })
    };
    let page = json!({
        "certificates": found.iter().take(MAX_LISTED).map(certificate).collect::<Vec<_>>(),
        "more": found.len().saturating_sub(MAX_LISTED),
        "forgottenUntil": issues.forgotten_until(now).and_then(at),
    });
    (StatusCode::OK, page)
}

fn revoke(authority: &Rotations, query: &str) -> Result<(), String> {
    if let Some(selection) = selection(query) {
        return authority
            .revoke_all(selection?)
            .map_err(|error| error.to_string());
    }
    let serials = query.strip_prefix("serials=").unwrap_or_default();
    let serials: Vec<&str> = serials.split(',').collect();
    authority.revoke(&serials).map_err(|error| error.to_string())
}

/// The certificates that a query is about, if it says so by identity or node.
fn selection(query: &str) -> Option<Result<Selection, String>> {
    let (kind, name) = query.split_once('=')?;
    matches!(kind, "identity" | "node").then(|| {
        let selection = format!("{kind} {name}").parse::<Selection>();
        selection.map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests;
