use prost_types::{Struct, Value};

use super::*;

fn node(id: &str, fields: &[(&str, &str)]) -> Node {
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = fields
        .iter()
        .map(|(name, text)| ((*name).to_owned(), value(text)))
        .collect();
    Node {
        id: id.to_owned(),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

const METADATA: [(&str, &str); 4] = [
    ("NAME", "zt-1"),
    ("NAMESPACE", "istio-system"),
    ("NODE_NAME", "node-a"),
    ("SERVICE_ACCOUNT", "ztunnel"),
];
const ID: &str = "ztunnel~10.0.0.1~zt-1.istio-system~istio-system.svc.cluster.local";

fn caller() -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: "zt-1".to_owned(),
        pod_uid: "uid".to_owned(),
        node: "node-a".to_owned(),
    }
}

fn check(node: &Node, caller: &Caller) -> Result<Role, Refusal> {
    let trusted = [("istio-system".to_owned(), "ztunnel".to_owned())];
    let name = ProxyName::from_node(Some(node)).unwrap();
    name.check(Some(node), caller, &trusted, |_| Ok(()))
}

#[test]
fn the_name_is_in_metadata_and_id() {
    let name = ProxyName::from_node(Some(&node(ID, &METADATA))).unwrap();
    assert_eq!(
        (&*name.node, &*name.namespace, &*name.pod),
        ("node-a", "istio-system", "zt-1")
    );
    assert_eq!(ProxyName::from_node(None), Err(NodeError::Missing));
    let no_namespace = node(ID, &METADATA[..1]);
    assert_eq!(
        ProxyName::from_node(Some(&no_namespace)),
        Err(NodeError::NoMetadata("NAMESPACE"))
    );
    let long = "x".repeat(1 << 20);
    let too_long = node(ID, &[("NAME", &long), METADATA[1]]);
    assert_eq!(
        ProxyName::from_node(Some(&too_long)),
        Err(NodeError::TooLong("NAME"))
    );
    for id in [
        "",
        "ztunnel~10.0.0.1~zt-1.istio-system",
        "ztunnel~10.0.0.1~other.istio-system~x",
    ] {
        let bad = ProxyName::from_node(Some(&node(id, &METADATA)));
        assert_eq!(bad, Err(NodeError::BadId(id.to_owned())));
    }
}

#[test]
fn only_true_says_that_dry_run_is_known() {
    let said = |value: &str| knows_dry_run(Some(&node(ID, &[(DRY_RUN_KEY, value)])));
    assert!(said("true"));
    assert!(!said("false") && !said("") && !said("1"));
    assert!(!knows_dry_run(None) && !knows_dry_run(Some(&node(ID, &METADATA))));
}

#[test]
fn each_claim_of_a_node_proxy_must_be_the_tokens() {
    assert_eq!(check(&node(ID, &METADATA), &caller()), Ok(Role::Node));
    assert_eq!(
        check(&node(ID, &METADATA[..3]), &caller()),
        Ok(Role::Node),
        "older ones do not say the account"
    );
    let refused =
        |metadata: &[(&str, &str)], caller: &Caller, expected: &str| match check(&node(ID, metadata), caller)
        {
            Err(refusal @ Refusal::NotYours { field, .. }) => {
                assert_eq!((field, refusal.code()), (expected, "not_its_node"));
            }
            other => panic!("{other:?}"),
        };
    // Another's token, replayed; and one that names no node, which must not count as any.
    for other in ["node-b", ""] {
        let node = other.to_owned();
        refused(&METADATA, &Caller { node, ..caller() }, "NODE_NAME");
    }
    refused(&METADATA[..2], &caller(), "NODE_NAME");
    let nameless = Caller {
        node: String::new(),
        ..caller()
    };
    refused(&METADATA[..2], &nameless, "NODE_NAME");
    let pod_name = "zt-2".to_owned();
    refused(&METADATA, &Caller { pod_name, ..caller() }, "the pod's NAME");
    let mut metadata = METADATA;
    metadata[3].1 = "other";
    refused(&metadata, &caller(), "SERVICE_ACCOUNT");
}

#[test]
fn others_are_served_only_as_their_own_pod() {
    let fields = [
        ("NAME", "web-1"),
        ("NAMESPACE", "demo"),
        ("SERVICE_ACCOUNT", "web"),
    ];
    let id = "ztunnel~10.0.0.1~web-1.demo~demo.svc.cluster.local";
    let own = Caller {
        namespace: "demo".to_owned(),
        service_account: "web".to_owned(),
        pod_name: "web-1".to_owned(),
        ..caller()
    };
    assert_eq!(check(&node(id, &fields), &own), Ok(Role::Dedicated));
    let mut on_node = fields.to_vec();
    on_node.push(("NODE_NAME", "node-a"));
    assert_eq!(check(&node(id, &on_node), &own), Ok(Role::Dedicated));

    // As a node proxy, as another pod, on another node, without a pod of its own.
    let refused = |node: &Node, caller: &Caller, expected: &str| match check(node, caller) {
        Err(refusal @ Refusal::NotYourPod { field, .. }) => {
            assert_eq!((field, refusal.code()), (expected, "not_its_pod"));
        }
        other => panic!("{other:?}"),
    };
    refused(&node(ID, &METADATA), &own, "NAMESPACE");
    on_node[3].1 = "node-b";
    refused(&node(id, &on_node), &own, "NODE_NAME");
    let unbound = Caller {
        pod_name: String::new(),
        ..own.clone()
    };
    refused(&node(id, &fields), &unbound, "the pod's NAME");

    let trusted = [("istio-system".to_owned(), "ztunnel".to_owned())];
    let message = node(id, &fields);
    let name = ProxyName::from_node(Some(&message)).unwrap();
    let pod = || "demo/web-1".to_owned();
    for (problem, may_pass) in [
        (Denied::CallerPodUnknown { pod: pod() }, true),
        (Denied::CallerPodReplaced { pod: pod() }, false),
    ] {
        let gone = name.check(Some(&message), &own, &trusted, |_| Err(problem.clone()));
        let gone = gone.unwrap_err();
        assert_eq!((gone.code(), gone.may_pass()), ("no_such_pod", may_pass));
        // Nor is the proxy of a node whose pod is none that runs here.
        let proxy = node(ID, &METADATA);
        let name = ProxyName::from_node(Some(&proxy)).unwrap();
        let refused = name.check(Some(&proxy), &caller(), &trusted, |_| Err(problem.clone()));
        let who = "the node proxy istio-system/zt-1".to_owned();
        assert_eq!(refused, Err(Refusal::NoSuchPod { who, problem }));
    }
}

#[test]
fn other_proxies_are_told_so() {
    let sidecar = node("sidecar~10.0.0.1~zt-1.istio-system~x", &METADATA);
    assert_eq!(
        check(&sidecar, &caller()),
        Err(Refusal::OtherProxy("sidecar".to_owned()))
    );
}

#[test]
fn a_stream_stays_who_it_is() {
    let message = node(ID, &METADATA);
    let name = ProxyName::from_node(Some(&message)).unwrap();
    assert_eq!(name.still(None), Ok(()));
    assert_eq!(name.still(Some(&message)), Ok(()));
    let mut metadata = METADATA;
    metadata[2].1 = "node-b";
    let refusal = name.still(Some(&node(ID, &metadata))).unwrap_err();
    assert_eq!(refusal.code(), "node_changed");
    assert!(name.still(Some(&Node::default())).is_err());
}
