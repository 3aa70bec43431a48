use serde_json::json;

use super::{Filter, parse_labels};
use crate::kinds;

#[test]
fn label_selectors() {
    let object = json!({ "metadata": { "labels": { "app": "web", "tier": "3", "example.org/zone": "a" } } });
    let cases = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app=api", false),
        ("app!=api", true),
        ("gone!=api", true),
        ("app in (api, web)", true),
        ("app in (api),tier=3", false),
        ("app notin (api,db)", true),
        ("gone notin (api)", true),
        ("app", true),
        ("!app", false),
        ("!gone", true),
        ("example.org/zone=a,app", true),
        ("tier>2", true),
        ("tier<3", false),
    ];
    for (text, expected) in cases {
        let filter = Filter {
            labels: parse_labels(text).unwrap(),
            fields: Vec::new(),
        };
        assert_eq!(filter.matches(&object), expected, "{text}");
    }
    for text in ["app in (web", "app) = x", "a b (c)", "=x", "a$b"] {
        assert!(parse_labels(text).is_err(), "{text}");
    }
}

#[test]
fn field_selectors_are_those_of_the_kind() {
    let resources = kinds::built_in();
    let find = |plural: &str| {
        resources
            .iter()
            .find(|resource| resource.plural == plural)
            .unwrap()
    };
    let pod =
        json!({ "metadata": { "name": "a" }, "spec": { "nodeName": "n" }, "status": { "phase": "Running" } });
    let cases = [
        ("spec.nodeName=n", true),
        ("spec.nodeName=", false),
        ("status.phase!=Running", false),
        ("metadata.name=a,spec.nodeName==n", true),
        ("spec.hostNetwork=false", true),
    ];
    for (text, expected) in cases {
        let filter = Filter::parse("", text, find("pods")).unwrap();
        assert_eq!(filter.matches(&pod), expected, "{text}");
    }
    let refused = Filter::parse("", "spec.nodeName=n", find("configmaps")).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "field label not supported: spec.nodeName")
    );
}
