//! What the CA answers, for people.

use serde_json::Value;

use crate::print;

/// How the roots stand.
pub(super) fn status(status: &Value) {
    let (phase, since) = (text(&status["phase"]), text(&status["since"]));
    print::line(&format!(
        "{phase} since {since}, generation {}",
        status["generation"]
    ));
    if !status["acknowledged"].is_null() {
        let done = if phase == "switched" {
            "have renewed"
        } else {
            "have acknowledged"
        };
        print::line(&format!(
            "{} of {} holders of certificates {done}",
            status["acknowledged"], status["holders"]
        ));
    }
    if status["revoked"].as_u64().is_some_and(|revoked| revoked > 0) {
        print::line(&format!("{} certificates are revoked", status["revoked"]));
    }
    for order in list(&status["revocations"]) {
        revocation(order);
    }
    if let Some(reason) = status["clock"]["doubt"]["reason"].as_str() {
        print::line(&format!("clock: {reason}"));
    }
    if let Some(failure) = status["failure"].as_str() {
        print::line(&format!("failure: {failure}"));
    }
    let root = |root: &Value| {
        vec![
            text(&root["role"]).to_owned(),
            text(&root["fingerprint"]).to_owned(),
            text(&root["notAfter"]).to_owned(),
        ]
    };
    print::table(
        &["ROOT", "SHA-256", "NOT AFTER"],
        list(&status["roots"])
            .chain(list(&status["retired"]))
            .map(root)
            .collect(),
    );
    let blockers: Vec<_> = list(&status["blockers"])
        .map(|blocker| {
            vec![
                named(blocker),
                text(&blocker["until"]).to_owned(),
                text(&blocker["reason"]).to_owned(),
            ]
        })
        .collect();
    if !blockers.is_empty() {
        print::table(&["WAITS FOR", "AT MOST UNTIL", "WHY"], blockers);
    }
}

/// One revocation by identity or node.
fn revocation(order: &Value) {
    let selection = text(&order["selection"]);
    print::line(&format!(
        "{selection}: {} certificates from before {} are revoked",
        order["revoked"],
        text(&order["since"])
    ));
    if order["leftOut"].as_u64().is_some_and(|count| count > 0) {
        print::line(&format!(
            "  {} more found no room; to break with them exchange the root",
            order["leftOut"]
        ));
    }
    for unknown in list(&order["unknown"]) {
        let whose = match unknown["replica"].as_str() {
            Some(replica) => format!("by replica {replica}"),
            None => "by processes that have ended".to_owned(),
        };
        print::line(&format!(
            "  not known, and not revoked: what was issued {whose}; it ends by {}",
            text(&unknown["until"])
        ));
    }
}

/// Which certificates are valid.
pub(super) fn issued(answer: &Value) {
    let certificate = |one: &Value| {
        ["serial", "identity", "node", "caller", "issued", "notAfter"]
            .map(|column| text(&one[column]).to_owned())
            .to_vec()
    };
    print::table(
        &["SERIAL", "IDENTITY", "NODE", "ISSUED TO", "ISSUED", "NOT AFTER"],
        list(&answer["certificates"]).map(certificate).collect(),
    );
    if answer["more"].as_u64().is_some_and(|more| more > 0) {
        print::line(&format!(
            "and {} more; ask for one --identity or --node",
            answer["more"]
        ));
    }
    if let Some(until) = answer["forgottenUntil"].as_str() {
        print::line(&format!(
            "there was no room for all: others may be valid until {until}"
        ));
    }
}

pub(super) fn reason(blocker: &Value) -> String {
    format!("{}: {}", named(blocker), text(&blocker["reason"]))
}

/// Who a blocker is about.
fn named(blocker: &Value) -> String {
    match (blocker["node"].as_str(), blocker["pod"].as_str()) {
        (Some(node), Some(pod)) => format!("{node} ({pod})"),
        _ => blocker["replica"].as_str().unwrap_or("time").to_owned(),
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
