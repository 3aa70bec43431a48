//! Stored policies that cannot be read, the object that decides, and what authors are told.

use std::sync::Arc;

use objects::{Kind, MtlsMode, Object, ObjectKey};

use super::{POD, STATIC, own, peer, verdicts, wide};
use crate::testing::{accepts, compiled, pod, puts, stored, workload};
use crate::{Compiler, Condition, Settings};

const OPEN: [bool; 3] = [true; 3];
const CLOSED: [bool; 3] = [false; 3];

fn key(place: &str) -> ObjectKey {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    ObjectKey::new(Kind::PeerAuthentication, namespace, name)
}

/// Adds a policy as the store has it.
fn put(compiler: &mut Compiler, place: &str, spec: &str) -> crate::Output {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    compiler.apply([stored(
        Kind::PeerAuthentication,
        namespace,
        name,
        &peer(namespace, name, spec),
    )])
}

fn web() -> Object {
    let object = puts(&pod("demo", "web", "{app: web}", ""))
        .remove(0)
        .1
        .expect("a pod");
    Arc::unwrap_or_clone(object)
}

fn condition(compiler: &Compiler, place: &str) -> Condition {
    let [condition] = compiler.conditions()[&key(place)].as_slice() else {
        panic!("{:?}", compiler.conditions());
    };
    condition.clone()
}

#[test]
fn what_cannot_be_read_is_strict_for_whom_it_selects() {
    let pods = pod("demo", "web", "{app: web}", "") + &pod("demo", "bare", "{}", "");
    let mut compiler = compiled(&(pods + &wide("demo", Some("PERMISSIVE"))));
    put(
        &mut compiler,
        "demo/own",
        "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISIVE}}",
    );
    assert_eq!(verdicts(&compiler), CLOSED);
    assert_eq!(workload(&compiler, POD).authorization_policies, [STATIC]);
    let bare = workload(&compiler, "Kubernetes//Pod/demo/bare");
    assert!(accepts(&compiler, bare, 80, None));
    let own = condition(&compiler, "demo/own");
    assert_eq!((own.status, own.reason), (false, "Invalid"));
    assert!(
        own.message
            .contains("counts as STRICT for the workloads that it selects"),
        "{own:?}"
    );
    // Without a selector it is the namespace's, and an older one decides, as ever.
    let mut compiler = compiled(&pod("demo", "web", "{app: web}", ""));
    put(&mut compiler, "demo/z", "{mtls: {mode: PERMISIVE}}");
    assert_eq!(verdicts(&compiler), CLOSED);
    assert!(
        condition(&compiler, "demo/z")
            .message
            .contains("STRICT for every workload of its namespace")
    );
    put(&mut compiler, "demo/a", "{mtls: {mode: PERMISSIVE}}");
    assert_eq!(verdicts(&compiler), OPEN);
}

#[test]
fn where_the_selector_cannot_be_read_it_stands_above_all() {
    let unknown = "{selector: {matchLabels: 7}, mtls: {mode: PERMISSIVE}}";
    let others = [
        pod("demo", "web", "{app: web}", ""),
        wide("istio-system", Some("PERMISSIVE")),
        wide("demo", Some("PERMISSIVE")),
        own(Some("STRICT"), [Some("PERMISSIVE"), None]),
    ];
    let mut compiler = compiled(&others.concat());
    assert_eq!(verdicts(&compiler), [true, false, false]);
    let output = put(&mut compiler, "demo/z", unknown);
    assert_eq!(verdicts(&compiler), CLOSED);
    assert_eq!(workload(&compiler, POD).authorization_policies, [STATIC]);
    // The others have become policies without effect, and their authors are told.
    for place in ["demo/wide", "demo/own"] {
        let told = &output.conditions[&key(place)][0];
        assert_eq!((told.status, told.reason), (false, "Conflicted"), "{told:?}");
        assert!(told.message.contains("the policy z cannot be read"), "{told:?}");
    }
    assert_eq!(condition(&compiler, "demo/z").reason, "Invalid");
    for port in [Some(9090), None] {
        let effective = compiler.effective_mtls(&web(), port);
        assert_eq!((effective.mode, effective.by_port), (MtlsMode::Strict, false));
        assert_eq!(effective.decided_by, Some(key("demo/z")));
    }
    // Once it is mended, everything is as before.
    let output = put(&mut compiler, "demo/z", "{selector: {matchLabels: {a: b}}}");
    assert_eq!(verdicts(&compiler), [true, false, false]);
    assert!(output.conditions[&key("demo/wide")][0].is_clean());
}

#[test]
fn in_the_root_namespace_it_is_the_meshs_before_older_ones() {
    let mesh = peer("istio-system", "a", "{mtls: {mode: PERMISSIVE}}");
    let mut compiler = compiled(&(pod("demo", "web", "{app: web}", "") + &mesh));
    put(&mut compiler, "istio-system/z", "{selector: 7}");
    assert_eq!(verdicts(&compiler), CLOSED);
    assert!(
        condition(&compiler, "istio-system/z")
            .message
            .contains("STRICT for every workload of the mesh")
    );
    assert!(
        condition(&compiler, "istio-system/a")
            .message
            .contains("decides for the whole mesh")
    );
    // A narrower level still overrides it: it can be nothing but the mesh's.
    put(&mut compiler, "demo/wide", "{mtls: {mode: DISABLE}}");
    assert_eq!(verdicts(&compiler), OPEN);
}

#[test]
fn the_placeholder_of_what_is_no_text_closes_its_namespace() {
    let objects = pod("demo", "web", "{app: web}", "") + &own(Some("PERMISSIVE"), [None, None]);
    let mut compiler = compiled(&objects);
    let closed = Object::closed(&key("demo/z"), "it is no YAML").expect("a policy");
    compiler.apply([(key("demo/z"), Some(Arc::new(closed)))]);
    assert_eq!(verdicts(&compiler), CLOSED);
    compiler.apply([(key("demo/z"), None)]);
    assert_eq!(verdicts(&compiler), OPEN);
}

#[test]
fn the_deciding_object_is_named() {
    let text = [
        pod("demo", "web", "{app: web}", ""),
        wide("istio-system", Some("STRICT")),
        wide("demo", Some("UNSET")),
        own(Some("UNSET"), [Some("DISABLE"), Some("UNSET")]),
    ];
    let compiler = compiled(&text.concat());
    let cases = [
        (Some(9090), MtlsMode::Disable, "demo/own", true),
        (Some(8080), MtlsMode::Strict, "istio-system/wide", false),
        (Some(7000), MtlsMode::Strict, "istio-system/wide", false),
        (None, MtlsMode::Strict, "istio-system/wide", false),
    ];
    for (port, mode, place, by_port) in cases {
        let effective = compiler.effective_mtls(&web(), port);
        assert_eq!((effective.mode, effective.by_port), (mode, by_port), "{port:?}");
        assert_eq!(effective.decided_by, Some(key(place)), "{port:?}");
    }
    let nobody = Compiler::new(Settings::default()).effective_mtls(&web(), None);
    assert_eq!(
        (nobody.mode, nobody.decided_by, nobody.by_port),
        (MtlsMode::Permissive, None, false)
    );
}

#[test]
fn each_policy_has_its_condition() {
    let selector = "selector: {matchLabels: {app: web}}";
    let cases = [
        ("demo/p", "{}".to_owned(), true, "Accepted", "attached to ztunnel"),
        (
            "demo/p",
            format!("{{{selector}, mtls: {{mode: STRICT}}}}"),
            true,
            "Accepted",
            "attached to ztunnel",
        ),
        (
            "istio-system/p",
            "{mtls: {mode: STRICT}}".to_owned(),
            true,
            "Accepted",
            "attached to ztunnel",
        ),
        (
            "istio-system/p",
            format!("{{{selector}, mtls: {{mode: STRICT}}}}"),
            false,
            "UnsupportedValue",
            "have no effect in the root namespace",
        ),
        (
            "demo/p",
            "{mtls: {mode: DISABLE}}".to_owned(),
            true,
            "UnsupportedValue",
            "does not turn mTLS off",
        ),
        (
            "demo/p",
            format!("{{{selector}, portLevelMtls: {{80: {{mode: DISABLE}}}}}}"),
            true,
            "UnsupportedValue",
            "does not turn mTLS off",
        ),
    ];
    for (place, spec, status, reason, message) in cases {
        let mut compiler = Compiler::new(Settings::default());
        let output = put(&mut compiler, place, &spec);
        let found = condition(&compiler, place);
        assert_eq!(output.conditions[&key(place)], std::slice::from_ref(&found));
        assert_eq!(
            (found.kind, found.status, found.reason),
            ("ZtunnelAccepted", status, reason),
            "{spec}"
        );
        assert!(found.message.contains(message), "{found:?}");
        assert_eq!(output.warnings.is_empty(), found.is_clean(), "{spec}");
    }
    // The younger of two is told when it becomes the deciding one, although nobody touched it.
    let mut compiler = compiled(&(wide("demo", Some("STRICT")) + &peer("demo", "younger", "{}")));
    assert_eq!(condition(&compiler, "demo/younger").reason, "Conflicted");
    let output = compiler.apply([(key("demo/wide"), None)]);
    assert!(output.conditions[&key("demo/younger")][0].is_clean());
    assert!(!compiler.conditions().contains_key(&key("demo/wide")));
}
