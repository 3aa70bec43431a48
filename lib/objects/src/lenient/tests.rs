use super::parse_leniently;

const TEXT: &str = r#"apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels:
    istio.io/dataplane-mode: ambient
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: http, namespace: shop}
spec: {endpointSelector: {}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: bad, namespace: shop}
spec:
  rules:
  - from:
    - source: {principals: ["spiffe://cluster.local/ns/shop/sa/web"]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: theirs}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
---
kind: Pod
metadata: {name: no-version}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"#;

#[test]
fn what_is_wrong_does_not_hide_what_is_not() {
    let reading = parse_leniently("m.yaml", TEXT);
    let names: Vec<String> = reading
        .objects
        .iter()
        .map(|read| read.object.key().to_string())
        .collect();
    assert_eq!(names, ["Namespace shop"]);
    let unread: Vec<(&str, &str, &str, usize)> = reading
        .unread
        .iter()
        .map(|unread| {
            (
                unread.kind.as_str(),
                unread.namespace.as_str(),
                unread.name.as_str(),
                unread.line,
            )
        })
        .collect();
    assert_eq!(
        unread,
        [
            ("CiliumNetworkPolicy", "shop", "http", 8),
            ("AuthorizationPolicy", "default", "theirs", 21),
            ("Gateway", "shop", "edge", 25)
        ]
    );
    let errors: Vec<(Option<usize>, &str)> = reading
        .errors
        .iter()
        .map(|error| (error.line, error.field.as_str()))
        .collect();
    assert_eq!(
        errors,
        [
            (Some(19), "spec.rules[0].from[0].source.principals[0]"),
            (Some(29), ""),
            (Some(29), ""),
            (Some(32), "")
        ]
    );
}

#[test]
fn fields_have_lines() {
    let reading = parse_leniently("m.yaml", TEXT);
    let namespace = &reading.objects[0];
    assert_eq!(namespace.line(""), 1);
    assert_eq!(namespace.line("metadata.name"), 4);
    assert_eq!(namespace.line("metadata.labels[\"istio.io/dataplane-mode\"]"), 6);
    assert_eq!(namespace.line("metadata.annotations.none"), 4);
    for odd in [
        "[",
        "[x]",
        "[\"",
        "..",
        "metadata..name",
        "a[99999999999999999999999]",
    ] {
        assert!(namespace.line(odd) >= 1, "{odd}");
    }
}

#[test]
fn nothing_makes_it_fail() {
    for text in [
        "",
        "- a",
        "a: [",
        "kind: 1\napiVersion: x/y",
        "kind: X\napiVersion: x/y\nmetadata: []",
    ] {
        let reading = parse_leniently("m.yaml", text);
        assert!(reading.objects.is_empty(), "{text}");
    }
}
