//! Reading a policy, and what stands for one that cannot be read.

use super::target::read_scope;
use super::{Action, AuthorizationPolicy, Rule};
use crate::read::{Field, Fields};
use crate::selector::Labels;

/// How many rules a policy may have.
const MAX_RULES: usize = 512;

impl AuthorizationPolicy {
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
