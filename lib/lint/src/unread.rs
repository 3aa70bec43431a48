//! What could not be read, or is of a kind that nobody reads.

use std::collections::BTreeMap;

use objects::{ObjectKey, ParseError, ParseErrors, UnreadObject, foreign_policy, pod_maker};
use serde_json::Value;

use crate::code::{Code, Severity};
use crate::finding::Finding;
use crate::world::{World, some};

pub(crate) fn check(world: &World<'_>, found: &mut Vec<Finding>) {
    found.extend(world.input.errors.iter().map(refused));
    for unread in &world.input.unread {
        match pod_maker(unread).map(|maker| maker.pod()) {
            None => found.push(not_read(unread)),
            Some(Err(errors)) => found.push(unreadable_template(unread, &errors)),
            Some(Ok(_)) => {}
        }
    }
    for read in world.objects.values() {
        let problems = read.object.unreadable();
        if !problems.is_empty() {
            found.push(Finding::about(
                read,
                Code::Unreadable,
                "spec",
                format!(
                    "the policy cannot be read as a whole, so it refuses whatever it could have refused: {}",
                    some(problems.iter().map(String::as_str))
                ),
                "apply it again in a form that is accepted",
            ));
        }
    }
    let mut seen: BTreeMap<ObjectKey, &str> = BTreeMap::new();
    for read in &world.input.objects {
        let Some(first) = seen.insert(read.object.key(), &read.file) else {
            continue;
        };
        found.push(Finding::about(
            read,
            Code::DefinedTwice,
            "metadata.name",
            format!("the same object is also defined in {first}; the last one that is applied wins"),
            "keep one of them, or give them different names",
        ));
    }
}

fn refused(error: &ParseError) -> Finding {
    let spiffe = error.problem.contains("spiffe://");
    let twice = error.problem.starts_with("is defined twice");
    let (code, fix) = if spiffe {
        (
            Code::SpiffePrefix,
            "write the identity without its scheme: cluster.local/ns/NAMESPACE/sa/ACCOUNT",
        )
    } else if twice {
        (
            Code::DefinedTwice,
            "keep one of them, or give them different names",
        )
    } else {
        (
            Code::Invalid,
            "mend the field as the message says; until then the document is refused, and nothing of it is checked \
             further",
        )
    };
    Finding {
        severity: code.severity(),
        object: error.object.clone().unwrap_or_default(),
        field: error.field.clone(),
        code,
        why: error.problem.clone(),
        fix: fix.to_owned(),
        file: (!error.file.is_empty()).then(|| error.file.clone()),
        line: error.line,
    }
}

/// The template of something that makes pods cannot be read, so nothing is known of them.
fn unreadable_template(unread: &UnreadObject, errors: &ParseErrors) -> Finding {
    let problems: Vec<String> = errors
        .0
        .iter()
        .map(|error| format!("{} {}", error.field, error.problem))
        .collect();
    Finding {
        severity: Code::Invalid.severity(),
        code: Code::Invalid,
        why: format!(
            "its pods cannot be read, so nothing is said about them: {}",
            some(problems.iter().map(String::as_str))
        ),
        fix: "mend the field as the message says".to_owned(),
        ..place(unread, "spec.template")
    }
}

fn not_read(unread: &UnreadObject) -> Finding {
    let (code, why, fix) = match foreign_policy(&unread.api_version, &unread.kind) {
        Some(policy) => (
            Code::ForeignPolicy,
            format!(
                "the mesh enforces nothing of it{}: {}",
                parts(&unread.value),
                policy.enforced_by
            ),
            policy.instead.to_owned(),
        ),
        None => (
            Code::KindNotRead,
            format!(
                "documents of kind {} ({}) are not read; nothing in them is checked or enforced here",
                unread.kind, unread.api_version
            ),
            "nothing, unless it was meant to decide who may talk to whom".to_owned(),
        ),
    };
    Finding {
        severity: code.severity(),
        code,
        why,
        fix,
        ..place(unread, "kind")
    }
}

/// A finding about a document, of which only the place is said yet.
fn place(unread: &UnreadObject, field: &str) -> Finding {
    Finding {
        severity: Severity::Info,
        object: format!("{} {}/{}", unread.kind, unread.namespace, unread.name),
        field: field.to_owned(),
        code: Code::KindNotRead,
        why: String::new(),
        fix: String::new(),
        file: (!unread.file.is_empty()).then(|| unread.file.clone()),
        line: (unread.line > 0).then_some(unread.line),
    }
}

/// What of a policy is not enforced: its rules by direction, and those about HTTP.
fn parts(value: &Value) -> String {
    let Some(spec) = value.get("spec") else {
        return String::new();
    };
    let mut parts = Vec::new();
    for direction in ["ingress", "egress", "ingressDeny", "egressDeny"] {
        let rules = spec.get(direction).and_then(Value::as_array).map_or(0, Vec::len);
        if rules > 0 {
            parts.push(format!(
                "{rules} {direction} rule{}",
                if rules == 1 { "" } else { "s" }
            ));
        }
    }
    let http = count(spec, "http", 0);
    if http > 0 {
        parts.push(format!(
            "{http} HTTP rule{} inside",
            if http == 1 { "" } else { "s" }
        ));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" (not enforced: {})", parts.join(", "))
    }
}

/// How many items the lists of this name have together.
fn count(value: &Value, name: &str, depth: usize) -> usize {
    // Documents are bounded in depth; this only keeps the stack small.
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return 0;
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, inner)| match inner.as_array() {
                Some(items) if key == name => items.len(),
                _ => count(inner, name, depth + 1),
            })
            .sum(),
        Value::Array(items) => items.iter().map(|item| count(item, name, depth + 1)).sum(),
        _ => 0,
    }
}
