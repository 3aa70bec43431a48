use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn services_are_for_all_clusters_by_their_label_unless_it_is_said_otherwise() {
    let (none, global) = (labels(&[]), labels(&[("istio.io/global", "true")]));
    for text in ["", "trustDomain: a"] {
        let scopes = MeshConfig::parse(text).unwrap().service_scopes;
        assert!(scopes.is_global(&global, &none));
        assert!(!scopes.is_global(&labels(&[("istio.io/global", "false")]), &none));
        assert!(!scopes.is_global(&none, &global), "that of a namespace is none");
    }
    let nobody = MeshConfig::parse("serviceScopeConfigs: []")
        .unwrap()
        .service_scopes;
    assert!(!nobody.is_global(&global, &none));
}

#[test]
fn the_first_rule_that_selects_a_service_counts() {
    let text = "
serviceScopeConfigs:
- servicesSelector: {matchLabels: {secret: \"yes\"}}
  scope: LOCAL
- namespaceSelector: {matchLabels: {shared: \"yes\"}}
  servicesSelector: {matchExpressions: [{key: app, operator: Exists}]}
  scope: GLOBAL
";
    let scopes = MeshConfig::parse(text).unwrap().service_scopes;
    let shared = labels(&[("shared", "yes")]);
    assert!(scopes.is_global(&labels(&[("app", "web")]), &shared));
    assert!(!scopes.is_global(&labels(&[("app", "web"), ("secret", "yes")]), &shared));
    assert!(!scopes.is_global(&labels(&[("app", "web")]), &labels(&[])));
    assert!(!scopes.is_global(&labels(&[]), &shared));
}

#[test]
fn a_rule_that_is_not_understood_is_no_rule_for_everything() {
    for bad in [
        "serviceScopeConfigs: [{serviceSelector: {matchLabels: {a: b}}, scope: GLOBAL}]",
        "serviceScopeConfigs: [{scope: EVERYWHERE}]",
        "serviceScopeConfigs: {scope: GLOBAL}",
        "serviceScopeConfigs: [{servicesSelector: {matchLabel: {a: b}}, scope: GLOBAL}]",
    ] {
        assert!(MeshConfig::parse(bad).is_err(), "{bad}");
    }
}
