//! AuthorizationPolicy: who may talk to whom.
//!
//! What a layer 4 proxy can decide has types; the HTTP attributes are checked for their shape and kept by name, so
//! that whoever converts the policy can say which of them is not enforced.

use crate::read::{Field, Fields};
use crate::selector::{Labels, read_workload_selector};
use crate::syntax::{self, IpBlock};

mod conditions;
mod source;

pub use conditions::{Condition, Test};
pub use source::{ServiceAccountRef, Source};

/// The annotation that asks for a policy to be tried without being enforced.
pub const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// How many rules a policy may have, and how many sources a rule.
const MAX_RULES: usize = 512;
const MAX_SOURCES: usize = 512;
const MAX_TARGET_REFS: usize = 16;

/// Who may talk to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// The workloads meant; empty (also `selector: {}`): all of the namespace, or of the mesh in the root namespace.
    pub selector: Labels,
    /// What the policy is attached to instead of workloads; such a policy is a waypoint's.
    pub target_refs: Vec<TargetRef>,
    /// What a match means.
    pub action: Action,
    /// The policy matches when any rule does. Without rules, it matches nothing.
    pub rules: Vec<Rule>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The connection is let in; once any ALLOW policy applies, only what matches one is.
    #[default]
    Allow,
    /// The connection is refused, whatever is allowed.
    Deny,
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRef {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// A rule matches when one source, one operation and every condition do; a part that is left out always matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who; empty: anybody.
    pub from: Vec<Source>,
    /// What; empty: anything.
    pub to: Vec<Operation>,
    /// Further conditions.
    pub when: Vec<Condition>,
}

/// What is done; every part must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The workload's port.
    pub ports: Matches<u16>,
    /// The HTTP attributes that are also named, which a layer 4 proxy cannot decide.
    pub http: Vec<&'static str>,
}

/// A positive and a negative list: any of the first (when there are some), none of the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches<T> {
    /// One of these must match, unless there are none.
    pub any: Vec<T>,
    /// None of these may match.
    pub none: Vec<T>,
}

impl<T> Default for Matches<T> {
    fn default() -> Matches<T> {
        Matches {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

impl<T> Matches<T> {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

impl AuthorizationPolicy {
    /// The HTTP attributes named anywhere in the policy, sorted, each once.
    pub fn http_attributes(&self) -> Vec<&str> {
        let mut found: Vec<&str> = self.rules.iter().flat_map(Rule::http_attributes).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub(crate) fn read(fields: &mut Fields<'_>, namespace: &str) -> Option<AuthorizationPolicy> {
        fields.keep(&["status"]);
        let Some(field) = fields.get("spec") else {
            return Some(AuthorizationPolicy::default());
        };
        let mut spec = field.fields()?;
        let action = spec
            .get("action")
            .map_or(Some(Action::Allow), |field| read_action(&field));
        let selector = spec.get("selector");
        let (one, many) = (spec.get("targetRef"), spec.get("targetRefs"));
        if [&selector, &one, &many].into_iter().flatten().count() > 1 {
            field.error("at most one of selector, targetRef and targetRefs may be given");
        }
        let mut target_refs: Vec<TargetRef> = one
            .iter()
            .filter_map(|field| TargetRef::read(field, namespace))
            .collect();
        if let Some(many) = &many {
            let items = many.items_up_to(MAX_TARGET_REFS);
            target_refs.extend(items.iter().filter_map(|field| TargetRef::read(field, namespace)));
        }
        let rules_field = spec.get("rules");
        let rules = rules_field
            .map(|field| field.items_up_to(MAX_RULES))
            .unwrap_or_default();
        if action == Some(Action::Deny) && rules.is_empty() {
            field.error("a policy with action DENY needs rules; `rules: [{}]` denies everything");
        }
        if let Some(provider) = spec.get("provider") {
            provider.error("a provider belongs to the action CUSTOM, which is not enforced here: drop it");
        }
        let selector = read_workload_selector(selector);
        let rules = rules.iter().filter_map(Rule::read).collect();
        spec.finish();
        Some(AuthorizationPolicy {
            selector,
            target_refs,
            action: action?,
            rules,
        })
    }
}

fn read_action(field: &Field<'_>) -> Option<Action> {
    let reason = match field.tree().text() {
        Some("AUDIT") => "only the proxies that write audit logs understand it",
        Some("CUSTOM") => "it asks an external authorizer, which a layer 4 proxy does not do",
        _ => return field.choice(&[("ALLOW", Action::Allow), ("DENY", Action::Deny)]),
    };
    let action = field.tree().text().unwrap_or_default();
    field.error(format!(
        "the action {action} is not enforced here: {reason}; use ALLOW or DENY"
    ));
    None
}

impl TargetRef {
    fn read(field: &Field<'_>, namespace: &str) -> Option<TargetRef> {
        const KINDS: [(&str, &str); 4] = [
            ("", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
        ];
        let mut fields = field.fields()?;
        let group = fields
            .get("group")
            .and_then(|field| field.text())
            .unwrap_or_default();
        let kind = fields
            .require("kind", "such as Service")
            .and_then(|field| field.text());
        let name = fields
            .require("name", "the target's name")
            .and_then(|field| field.checked(syntax::dns_subdomain));
        if let Some(field) = fields.get("namespace")
            && field
                .text()
                .is_some_and(|other| !other.is_empty() && other != namespace)
        {
            field.error("the target must be in the policy's own namespace");
        }
        fields.finish();
        let (kind, name) = (kind?, name?);
        // The core group may also be written out.
        let group = if group == "core" { "" } else { group };
        if !KINDS.contains(&(group, kind)) {
            field.error(format!(
                "a policy cannot be attached to {kind:?} of group {group:?}: use Service (group \"\"), ServiceEntry \
                 (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)"
            ));
        }
        Some(TargetRef {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Rule {
    /// The HTTP attributes that the rule names.
    pub fn http_attributes(&self) -> impl Iterator<Item = &str> {
        let from = self.from.iter().flat_map(|source| source.http.iter().copied());
        let to = self
            .to
            .iter()
            .flat_map(|operation| operation.http.iter().copied());
        let when = self.when.iter().filter(|condition| condition.test == Test::Http);
        from.chain(to).chain(when.map(|condition| condition.key.as_str()))
    }

    fn read(field: &Field<'_>) -> Option<Rule> {
        let mut fields = field.fields()?;
        let mut rule = Rule::default();
        if let Some(from) = fields.get("from") {
            let items = not_empty(&from, from.items_up_to(MAX_SOURCES));
            rule.from = items
                .iter()
                .filter_map(|item| wrapped(item, "source", Source::read))
                .collect();
        }
        if let Some(to) = fields.get("to") {
            let items = not_empty(&to, to.items());
            rule.to = items
                .iter()
                .filter_map(|item| wrapped(item, "operation", Operation::read))
                .collect();
        }
        if let Some(when) = fields.get("when") {
            rule.when = not_empty(&when, when.items())
                .iter()
                .filter_map(Condition::read)
                .collect();
        }
        fields.finish();
        Some(rule)
    }
}

/// An entry of `from` or `to`: one field that holds the content.
fn wrapped<T>(item: &Field<'_>, name: &'static str, read: fn(&Field<'_>) -> Option<T>) -> Option<T> {
    let mut fields = item.fields()?;
    let found = fields.require(
        name,
        "an empty entry would match everything; drop it if that is meant",
    );
    let value = found.and_then(|field| read(&field));
    fields.finish();
    value
}

/// An empty list says nothing about whether "all" or "none" is meant, so it is refused.
fn not_empty<'a>(field: &Field<'a>, items: Vec<Field<'a>>) -> Vec<Field<'a>> {
    if items.is_empty() && field.tree().is_sequence() {
        field.error("is an empty list: name at least one entry, or leave the field out to match everything");
    }
    items
}

impl Operation {
    fn read(field: &Field<'_>) -> Option<Operation> {
        const HTTP: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
        let mut fields = field.fields()?;
        let mut operation = Operation::default();
        operation.ports.any = list(&mut fields, "ports", |item| item.parsed(port));
        operation.ports.none = list(&mut fields, "notPorts", |item| item.parsed(port));
        operation.http = http(&mut fields, &HTTP);
        if fields.nothing_found() {
            field.error("an empty operation would match everything; drop the entry if that is meant");
        }
        fields.finish();
        Some(operation)
    }
}

/// A list of values that each must be good; null is absent.
fn list<T>(fields: &mut Fields<'_>, name: &'static str, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    let Some(field) = fields.get(name) else {
        return Vec::new();
    };
    not_empty(&field, field.items()).iter().filter_map(read).collect()
}

/// The names of those HTTP attributes that are given.
fn http(fields: &mut Fields<'_>, names: &[&'static str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !list(fields, name, |item| item.checked(some_text).map(drop)).is_empty() {
            found.push(*name);
        }
    }
    found
}

fn some_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty and would match nothing".to_owned())
    } else {
        Ok(())
    }
}

fn port(text: &str) -> Result<u16, String> {
    let number = text
        .parse::<u16>()
        .ok()
        .filter(|port| *port > 0 && port.to_string() == text);
    number.ok_or_else(|| "is no port: it must be a number between 1 and 65535, in quotes".to_owned())
}

fn block(text: &str) -> Result<IpBlock, String> {
    syntax::ip_block(text)
}

/// A value that may have one `*` at its beginning or end.
fn pattern(text: &str) -> Result<String, String> {
    some_text(text)?;
    let inner = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(rest), _) => rest,
        (None, Some(rest)) => rest,
        (None, None) => text,
    };
    if inner.contains('*') {
        return Err(
            "has a '*' that would be taken literally: one may stand at the beginning or at the end"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}
