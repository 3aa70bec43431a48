use objects::Kind;

use super::*;

fn condition(reason: &'static str) -> Condition {
    Condition {
        kind: "ZtunnelAccepted",
        status: false,
        reason,
        message: "why".to_owned(),
        observed_generation: 0,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::PeerAuthentication, "shop", name)
}

#[test]
fn what_was_changed_is_told_always_and_others_when_they_changed() {
    let before = Conditions::from([
        (key("changed"), vec![condition("Conflicted")]),
        (key("same"), vec![condition("Conflicted")]),
        (key("worse"), vec![condition("Accepted")]),
    ]);
    let mut after = before.clone();
    after.insert(key("worse"), vec![condition("Conflicted")]);
    after.insert(
        key("clean"),
        vec![Condition {
            status: true,
            ..condition("Accepted")
        }],
    );
    let changed = BTreeSet::from([key("changed"), key("clean")]);
    let told =
        |name: &str| format!("PeerAuthentication shop/{name}: Conflicted: why (condition ZtunnelAccepted)");
    assert_eq!(
        compare(&before, &after, &changed),
        [told("changed"), told("worse")]
    );
}

#[test]
fn of_many_others_the_rest_is_counted() {
    let after: Conditions = (0..OTHERS_MAX + 2)
        .map(|index| (key(&format!("n{index:03}")), vec![condition("Conflicted")]))
        .collect();
    let warnings = compare(&Conditions::new(), &after, &BTreeSet::new());
    assert_eq!(warnings.len(), OTHERS_MAX + 1);
    assert!(warnings[OTHERS_MAX].starts_with("2 more objects"), "{warnings:?}");
}
