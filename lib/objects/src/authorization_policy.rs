//! AuthorizationPolicy: who may talk to whom.
//!
//! What a layer 4 proxy can decide has types; the HTTP attributes are checked for their shape and kept by name, so
//! that whoever converts the policy can say which of them is not enforced.
//!
//! What cannot be read is refused where objects enter. In a policy that is stored already it must not vanish, since
//! that could open: single values are kept as unreadable ones, a rule with anything else wrong counts as unreadable,
//! and a policy with anything else wrong as one that denies everything ([`AuthorizationPolicy::unreadable`]).

use crate::read::{Field, Fields};
use crate::selector::{Labels, read_workload_selector};
use crate::syntax::{self, IpBlock};

mod conditions;
mod source;
mod unreadable;

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
    /// Why the policy as a whole cannot be read; empty unless it was stored so. Then the action is DENY and the only
    /// rule matches everything, and where it cannot be told whom the policy selects, that is everybody.
    pub unreadable: Vec<String>,
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The connection is let in; once any ALLOW policy applies, only what matches one is.
    #[default]
    Allow,
    /// The connection is refused, whatever is allowed.
    Deny,
    /// The request is logged: nothing for node proxies. Refused where objects enter.
    Audit,
    /// An external authorizer is asked: nothing for node proxies. Refused where objects enter.
    Custom,
}

impl Action {
    /// Whether node proxies know the action.
    pub fn is_supported(self) -> bool {
        matches!(self, Action::Allow | Action::Deny)
    }

    /// The action as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Audit => "AUDIT",
            Action::Custom => "CUSTOM",
        }
    }
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
    /// Why the rule cannot be read; empty unless it was stored so. Then nothing else of it is kept: it matches
    /// everything in a DENY policy and nothing in an ALLOW policy.
    pub unreadable: Vec<String>,
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
///
/// Values that cannot be read exist only in objects that were stored so. They can only close: in a DENY policy they
/// count as matching in a positive and as not matching in a negative list, in an ALLOW policy the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches<T> {
    /// One of these must match, unless there are none.
    pub any: Vec<T>,
    /// None of these may match.
    pub none: Vec<T>,
    /// Values of the first list that cannot be read, in words.
    pub unreadable_any: Vec<String>,
    /// Values of the second list that cannot be read, in words.
    pub unreadable_none: Vec<String>,
}

impl<T> Default for Matches<T> {
    fn default() -> Matches<T> {
        Matches {
            any: Vec::new(),
            none: Vec::new(),
            unreadable_any: Vec::new(),
            unreadable_none: Vec::new(),
        }
    }
}

impl<T> Matches<T> {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty() && self.unreadable().next().is_none()
    }

    /// The values that cannot be read, in words.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let all = self.unreadable_any.iter().chain(&self.unreadable_none);
        all.map(String::as_str)
    }

    fn read(
        fields: &mut Fields<'_>,
        any: &'static str,
        none: &'static str,
        read: impl Fn(&Field<'_>) -> Option<T>,
    ) -> Matches<T> {
        let (any, unreadable_any) = list(fields, any, &read);
        let (none, unreadable_none) = list(fields, none, &read);
        Matches {
            any,
            none,
            unreadable_any,
            unreadable_none,
        }
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

    /// The policy that stands for one that cannot be read.
    pub(crate) fn closed(unreadable: Vec<String>) -> AuthorizationPolicy {
        AuthorizationPolicy {
            action: Action::Deny,
            rules: vec![Rule::default()],
            unreadable,
            ..AuthorizationPolicy::default()
        }
    }

    /// The same policy once something in it cannot be read: it closes whom it selects. What is no affair of node
    /// proxies stays so.
    pub(crate) fn close(&mut self, problems: Vec<String>) {
        if problems.is_empty() || !self.target_refs.is_empty() || !self.action.is_supported() {
            return;
        }
        let mut closed = AuthorizationPolicy::closed(std::mem::take(&mut self.unreadable));
        closed.unreadable.extend(problems);
        closed.selector = std::mem::take(&mut self.selector);
        *self = closed;
    }

    pub(crate) fn read(fields: &mut Fields<'_>, namespace: &str) -> Option<AuthorizationPolicy> {
        fields.keep(&["status"]);
        let Some(field) = fields.get("spec") else {
            return Some(AuthorizationPolicy::default());
        };
        let mut spec = field.fields()?;
        let before = field.mark();
        let action = spec
            .get("action")
            .map_or(Some(Action::Allow), |field| read_action(&field));
        let mut unreadable = match action {
            Some(_) => Vec::new(),
            None => field.take_back(before),
        };
        let before = field.mark();
        let (selector, target_refs) = read_scope(&field, &mut spec, namespace);
        let problems = if target_refs.is_empty() {
            field.take_back(before)
        } else {
            Vec::new()
        };
        // When it cannot be told whom the policy selects, it is everybody.
        let selector = if problems.is_empty() {
            selector
        } else {
            Labels::new()
        };
        unreadable.extend(problems);
        let rules_field = spec.get("rules");
        let rules = rules_field
            .map(|field| field.items_up_to(MAX_RULES))
            .unwrap_or_default();
        // A stored one is understood: it denies nothing.
        if action == Some(Action::Deny) && rules.is_empty() && !field.is_stored() {
            field.error("a policy with action DENY needs rules; `rules: [{}]` denies everything");
        }
        if let Some(provider) = spec.get("provider")
            && action != Some(Action::Custom)
        {
            provider.error("a provider belongs to the action CUSTOM, which is not enforced here: drop it");
        }
        let rules = rules.iter().filter_map(Rule::read).collect();
        spec.finish();
        let action = if field.is_stored() {
            action.or(Some(Action::Deny))
        } else {
            action
        };
        let mut policy = AuthorizationPolicy {
            selector,
            target_refs,
            action: action?,
            rules,
            unreadable: Vec::new(),
        };
        policy.close(unreadable);
        Some(policy)
    }
}

fn read_action(field: &Field<'_>) -> Option<Action> {
    let (action, reason) = match field.tree().text() {
        Some("AUDIT") => (
            Action::Audit,
            "only the proxies that write audit logs understand it",
        ),
        Some("CUSTOM") => (
            Action::Custom,
            "it asks an external authorizer, which a layer 4 proxy does not do",
        ),
        _ => return field.choice(&[("ALLOW", Action::Allow), ("DENY", Action::Deny)]),
    };
    if !field.is_stored() {
        field.error(format!(
            "the action {} is not enforced here: {reason}; use ALLOW or DENY",
            action.as_str()
        ));
    }
    Some(action)
}

/// Whom the policy is for.
fn read_scope(field: &Field<'_>, spec: &mut Fields<'_>, namespace: &str) -> (Labels, Vec<TargetRef>) {
    let selector = spec.get("selector");
    let (one, many) = (spec.get("targetRef"), spec.get("targetRefs"));
    if [&selector, &one, &many].into_iter().flatten().count() > 1 {
        field.error("at most one of selector, targetRef and targetRefs may be given");
        if field.is_stored() {
            // It cannot be told which of them is meant.
            return (Labels::new(), Vec::new());
        }
    }
    let many = many
        .map(|many| many.items_up_to(MAX_TARGET_REFS))
        .unwrap_or_default();
    // A stored reference that cannot be read still makes the policy a waypoint's.
    let unreadable = || TargetRef {
        group: String::new(),
        kind: String::new(),
        name: String::new(),
    };
    let read = |target: &Field<'_>| {
        let stands_for = target.is_stored().then(unreadable);
        TargetRef::read(target, namespace).or(stands_for)
    };
    let target_refs = one.iter().chain(&many).filter_map(read).collect();
    (read_workload_selector(selector), target_refs)
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
        let before = field.mark();
        let rule = Rule::read_parts(field);
        let unreadable = field.take_back(before);
        if unreadable.is_empty() {
            return rule;
        }
        Some(Rule {
            unreadable,
            ..Rule::default()
        })
    }

    fn read_parts(field: &Field<'_>) -> Option<Rule> {
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
        let operation = Operation {
            ports: Matches::read(&mut fields, "ports", "notPorts", |item| item.parsed(port)),
            http: http(&mut fields, &HTTP),
        };
        if fields.nothing_found() {
            field.error("an empty operation would match everything; drop the entry if that is meant");
        }
        fields.finish();
        Some(operation)
    }
}

/// A list of values that each must be good, and what of a stored one cannot be read; null is absent.
fn list<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> (Vec<T>, Vec<String>) {
    let (mut good, mut unreadable) = (Vec::new(), Vec::new());
    let Some(field) = fields.get(name) else {
        return (good, unreadable);
    };
    for item in not_empty(&field, field.items()) {
        let before = item.mark();
        match read(&item) {
            Some(value) => good.push(value),
            None if item.is_stored() => {
                item.take_back(before);
                unreadable.push(item.in_words());
            }
            None => {}
        }
    }
    (good, unreadable)
}

/// The names of those HTTP attributes that are given.
fn http(fields: &mut Fields<'_>, names: &[&'static str]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        let (good, unreadable) = list(fields, name, |item| item.checked(some_text).map(drop));
        if !good.is_empty() || !unreadable.is_empty() {
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
