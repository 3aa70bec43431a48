//! Too many rules, and rules across policies.

use std::fmt::Write;

use super::{codes, in_mesh, listed};
use crate::{Code, Settings};

fn allow(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {spec}\n"
    )
}

#[test]
fn more_rules_than_are_compared_are_told() {
    let mut rules = String::new();
    for port in 1..=512 {
        write!(rules, "{{to: [{{operation: {{ports: [\"{port}\"]}}}}]}},").expect("memory");
    }
    let one = allow("many", "shop", &format!("{{rules: [{rules}]}}"));
    assert!(!codes(&in_mesh(&one, &Settings::default())).contains(&Code::TooManyRules));
    let three: String = ["a", "b", "c"]
        .iter()
        .map(|name| allow(name, "shop", &format!("{{rules: [{rules}]}}")))
        .collect();
    assert!(codes(&in_mesh(&three, &Settings::default())).contains(&Code::TooManyRules));
}

#[test]
fn scopes_decide_what_a_rule_makes_useless() {
    let rule = "rules: [{from: [{source: {namespaces: [shop]}}]}]";
    let backend = "selector: {matchLabels: {app: backend}}";
    let web = "selector: {matchLabels: {app: web}}";
    // Whose rule is repeated, by two policies that say the same in these scopes.
    let cases = [
        (("a", "shop", ""), ("b", "shop", ""), vec!["shop/b"]),
        (("a", "shop", backend), ("b", "shop", ""), vec!["shop/a"]),
        (("a", "shop", ""), ("b", "shop", backend), vec!["shop/b"]),
        (("a", "shop", backend), ("b", "shop", web), vec![]),
        (("a", "shop", ""), ("b", "istio-system", ""), vec!["shop/a"]),
        (("a", "shop", ""), ("b", "istio-system", web), vec![]),
        (("a", "shop", web), ("b", "istio-system", web), vec!["shop/a"]),
        (("a", "shop", ""), ("b", "monitoring", ""), vec![]),
    ];
    for ((one, one_namespace, one_selector), (other, other_namespace, other_selector), expected) in cases {
        let spec = |selector: &str| {
            if selector.is_empty() {
                format!("{{{rule}}}")
            } else {
                format!("{{{selector}, {rule}}}")
            }
        };
        let text = allow(one, one_namespace, &spec(one_selector))
            + &allow(other, other_namespace, &spec(other_selector));
        let found = in_mesh(&text, &Settings::default());
        let repeated: Vec<&str> = found
            .iter()
            .filter(|finding| finding.code == Code::RepeatedRule)
            .filter_map(|finding| finding.object.strip_prefix("AuthorizationPolicy "))
            .collect();
        assert_eq!(repeated, expected, "{text}{}", listed(&found));
    }
}

#[test]
fn a_dry_run_and_a_waypoints_policy_make_nothing_useless() {
    let narrow = allow(
        "narrow",
        "shop",
        "{rules: [{from: [{source: {namespaces: [shop]}}]}]}",
    );
    let open = allow("open", "shop", "{rules: [{}]}");
    let dry = open.replace(
        "namespace: shop}",
        "namespace: shop, annotations: {istio.io/dry-run: \"true\"}}",
    );
    let attached = allow(
        "open",
        "shop",
        "{targetRefs: [{kind: Service, name: x}], rules: [{}]}",
    );
    for (text, covered) in [(&open, true), (&dry, false), (&attached, false)] {
        let found = in_mesh(&(narrow.clone() + text), &Settings::default());
        assert_eq!(
            codes(&found).contains(&Code::CoveredByAllowAll),
            covered,
            "{text}{}",
            listed(&found)
        );
    }
}
