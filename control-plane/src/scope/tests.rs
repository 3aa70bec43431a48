use objects::MeshConfig;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn put(object: serde_json::Value) -> (ObjectKey, Option<Arc<Object>>) {
    let object = Object::from_value(object).unwrap();
    (object.key(), Some(Arc::new(object)))
}

fn namespace(name: &str, team: &str) -> (ObjectKey, Option<Arc<Object>>) {
    put(json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": { "team": team } } }))
}

fn account(namespace: &str, name: &str) -> (ObjectKey, Option<Arc<Object>>) {
    put(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": namespace } }))
}

fn selectors(yaml: &str) -> Vec<Selector> {
    MeshConfig::parse(&format!("discoverySelectors:\n{yaml}"))
        .unwrap()
        .discovery_selectors
}

fn words(changes: Changes) -> Vec<String> {
    let word = |(key, object): (ObjectKey, Option<Arc<Object>>)| {
        let sign = if object.is_some() { '+' } else { '-' };
        format!("{sign}{}/{}", key.namespace, key.name)
    };
    changes.into_iter().map(word).collect()
}

#[test]
fn a_namespace_comes_and_goes_with_its_labels() {
    let mut scope = Scope::new("istio-system".to_owned(), "");
    scope.select(selectors(
        "- matchLabels: {team: a}\n- matchExpressions: [{key: team, operator: In, values: [b]}]\n",
    ));
    let told = scope.apply(Changes::from([
        namespace("one", "a"),
        account("one", "x"),
        namespace("two", "c"),
        account("two", "y"),
        account("istio-system", "z"),
        account("three", "w"),
    ]));
    assert_eq!(words(told), ["+/one", "+istio-system/z", "+one/x"]);
    // What happens in another one is nobody's affair, and is known when it comes.
    let told = scope.apply(Changes::from([
        account("two", "new"),
        (account("two", "y").0, None),
    ]));
    assert!(told.is_empty());
    assert_eq!(
        words(scope.apply(Changes::from([namespace("two", "b")]))),
        ["+/two", "+two/new"]
    );
    // It goes while something in it changes, and something is deleted.
    let told = scope.apply(Changes::from([
        namespace("one", "c"),
        account("one", "later"),
        (account("one", "x").0, None),
    ]));
    assert_eq!(words(told), ["-/one", "-one/later", "-one/x"]);
    // Without selectors everything takes part.
    scope.select(Vec::new());
    assert_eq!(
        words(scope.apply(Changes::new())),
        ["+/one", "+one/later", "+three/w"]
    );
}

proptest! {
    /// Whatever happens in whatever order, those who are told know just what the selected namespaces hold.
    #[test]
    fn what_is_told_is_what_is_selected(
        steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_usize, any::<bool>()), 1..60)
    ) {
        let (names, teams) = (["one", "two", "istio-system"], ["a", "b", "c"]);
        let choices = ["", "- matchLabels: {team: a}\n", "- matchLabels: {team: b}\n- matchLabels: {team: c}\n"];
        let (mut scope, mut known, mut all) = (Scope::new("istio-system".to_owned(), ""), Changes::new(), Changes::new());
        let mut chosen = Vec::new();
        for (name, what, which, there) in steps {
            let mut change = match what {
                0 => namespace(names[name], teams[which]),
                1 => {
                    chosen = if choices[which].is_empty() { Vec::new() } else { selectors(choices[which]) };
                    scope.select(chosen.clone());
                    account(names[name], "s")
                }
                _ => account(names[name], teams[which]),
            };
            if !there {
                change.1 = None;
            }
            all.insert(change.0.clone(), change.1.clone());
            all.retain(|_, object| object.is_some());
            known.extend(scope.apply(Changes::from([change])));
            known.retain(|_, object| object.is_some());
            let is_selected = |key: &ObjectKey| {
                let home = home(key).unwrap();
                let labels = all
                    .get(&ObjectKey::new(Kind::Namespace, "", home))
                    .and_then(|namespace| namespace.as_ref())
                    .map(|namespace| namespace.metadata.labels.clone())
                    .unwrap_or_default();
                chosen.is_empty() || home == "istio-system" || chosen.iter().any(|one| one.matches(&labels))
            };
            let expected: Changes = all.iter().filter(|(key, _)| is_selected(key)).map(|(key, object)| (key.clone(), object.clone())).collect();
            prop_assert_eq!(&known, &expected);
        }
    }
}

#[test]
fn policies_and_entries_of_another_revision_are_not_there() {
    let object =
        |kind: &str, version: &str, name: &str, labels: serde_json::Value, spec: serde_json::Value| {
            put(json!({ "apiVersion": version, "kind": kind,
            "metadata": { "name": name, "namespace": "one", "labels": labels }, "spec": spec }))
        };
    let policy = |name: &str, labels| {
        object(
            "AuthorizationPolicy",
            "security.istio.io/v1",
            name,
            labels,
            json!({ "rules": [{}] }),
        )
    };
    let ours = json!({ "istio.io/rev": "stable" });
    let theirs = json!({ "istio.io/rev": "canary" });
    let gateway = json!({ "gatewayClassName": "istio-waypoint", "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }] });
    let all = || {
        Changes::from([
            policy("shared", json!({})),
            policy("ours", ours.clone()),
            policy("theirs", theirs.clone()),
            object(
                "PeerAuthentication",
                "security.istio.io/v1",
                "theirs",
                theirs.clone(),
                json!({}),
            ),
            object(
                "WorkloadEntry",
                "networking.istio.io/v1",
                "theirs",
                theirs.clone(),
                json!({ "address": "10.0.0.1" }),
            ),
            // What stands in front of a Service does so whoever runs it.
            object(
                "Gateway",
                "gateway.networking.k8s.io/v1",
                "theirs",
                theirs.clone(),
                gateway.clone(),
            ),
            put(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": "theirs", "namespace": "one", "labels": theirs.clone() } })),
        ])
    };
    let shown = |changes: Changes| {
        let mut words: Vec<_> = changes
            .into_iter()
            .filter(|(_, object)| object.is_some())
            .map(|(key, _)| format!("{}/{}", key.kind, key.name))
            .collect();
        words.sort();
        words
    };
    let mut scope = Scope::new("istio-system".to_owned(), "stable");
    let told = shown(scope.apply(all()));
    assert_eq!(
        told,
        [
            "AuthorizationPolicy/ours",
            "AuthorizationPolicy/shared",
            "Gateway/theirs",
            "ServiceAccount/theirs"
        ]
    );
    // A label that is changed takes it away, and brings it.
    let turned = scope.apply(Changes::from([
        policy("ours", theirs.clone()),
        policy("theirs", ours.clone()),
    ]));
    assert_eq!(words(turned), ["-one/ours", "+one/theirs"]);
    // Who is of no revision takes all.
    assert_eq!(
        shown(Scope::new("istio-system".to_owned(), "").apply(all())).len(),
        all().len()
    );
}
