use serde_json::json;

use super::*;

fn config_map(mesh: &str) -> Object {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
        "data": { "mesh": mesh, "meshNetworks": "networks: {}" } });
    Object::from_value(map).unwrap()
}

#[test]
fn the_command_line_counts_more_and_the_start_lasts() {
    let text = "trustDomain: example.org\ntrustDomainAliases: [old.org]\nrootNamespace: mesh\ndefaultConfig: {concurrency: 2}\n\
        discoverySelectors:\n- matchLabels: {team: a}\n";
    let mut settings = MeshSettings::new("istio-system", Flags::default(), "");
    assert_eq!(settings.read(Some(&config_map(text))), None);
    let fixed = Fixed {
        trust_domain: "example.org".to_owned(),
        trust_domain_aliases: vec!["old.org".to_owned()],
        root_namespace: "mesh".to_owned(),
    };
    assert_eq!(settings.fixed(), fixed);
    assert_eq!(settings.selectors().len(), 1);
    // Only the selectors follow.
    let notice = settings.read(Some(&config_map("trustDomain: other.org\n")));
    let notice = notice.expect("its author is told");
    assert_eq!(
        (&*notice.reason, &*notice.regarding.kind),
        ("RestartNeeded", "ConfigMap")
    );
    assert_eq!((settings.fixed(), settings.selectors().len()), (fixed, 0));

    let flags = Flags {
        trust_domain: Some("flag.org".to_owned()),
        root_namespace: None,
    };
    let mut settings = MeshSettings::new("istio-system", flags, "");
    settings.read(Some(&config_map(text)));
    let fixed = settings.fixed();
    assert_eq!(
        (&*fixed.trust_domain, &*fixed.root_namespace),
        ("flag.org", "mesh")
    );

    let mut none = MeshSettings::new("istio-system", Flags::default(), "");
    assert_eq!(none.fixed().trust_domain, "cluster.local");
}

#[test]
fn nonsense_changes_nothing() {
    let mut settings = MeshSettings::new("istio-system", Flags::default(), "");
    settings.read(Some(&config_map(
        "discoverySelectors:\n- matchLabels: {team: a}\n",
    )));
    for bad in [
        "discoverySelectors: none\n",
        "discoverySelectors:\n- matchLabels: [a]\n",
        "discoverySelectors:\n- matchExpressions: [{key: a, operator: Near}]\n",
        "trustDomain: [\n",
        "trustDomain: a/b\n",
        "trustDomainAliases: old.org\n",
        "trustDomainAliases: [good.org, a/b]\n",
    ] {
        let notice = settings.read(Some(&config_map(bad))).expect("its author is told");
        assert_eq!(notice.reason, "SettingsUnreadable");
        assert_eq!(notice.regarding.name, "istio");
        assert!(
            notice.note.contains("those before stay in force"),
            "{}",
            notice.note
        );
        assert!(!settings.are_missing());
        assert_eq!(settings.selectors().len(), 1, "{bad}");
    }
    settings.read(None);
    assert!(settings.selectors().is_empty());
}

/// By the defaults of settings that are not known, a policy might mean somebody else.
#[test]
fn nonsense_at_the_start_is_no_settings() {
    let mut settings = MeshSettings::new("istio-system", Flags::default(), "");
    assert!(!settings.are_missing(), "none are written");
    let notice = settings.read(Some(&config_map("trustDomain: [\n"))).unwrap();
    assert!(
        notice.note.contains("serves nobody until they can"),
        "{}",
        notice.note
    );
    assert!(settings.are_missing());
    assert_eq!(settings.read(Some(&config_map("trustDomain: a.org\n"))), None);
    assert!(!settings.are_missing());
    assert_eq!(settings.fixed().trust_domain, "a.org");
}
