use crate::{NetworkPeer, NetworkPolicy, Object, Protocol, Spec, parse};

fn policy(spec: &str) -> NetworkPolicy {
    let objects = parse("m.yaml", &text(spec)).unwrap_or_else(|errors| panic!("{errors}\n{spec}"));
    let [object] = objects.as_slice() else { panic!() };
    let again = parse("again.yaml", &object.to_yaml()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(&again[..], std::slice::from_ref::<Object>(object));
    match &object.spec {
        Spec::NetworkPolicy(policy) => policy.clone(),
        other => panic!("{other:?}"),
    }
}

fn text(spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
}

fn refused(spec: &str, field: &str, problem: &str) {
    let errors = parse("m.yaml", &text(spec)).expect_err(spec).0;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].field, field, "{}", errors[0]);
    assert!(errors[0].problem.contains(problem), "{}", errors[0]);
}

#[test]
fn directions() {
    let cases = [
        ("{podSelector: {}}", true, false),
        ("{podSelector: {}, policyTypes: []}", true, false),
        ("{podSelector: {}, policyTypes: [Ingress]}", true, false),
        ("{podSelector: {}, policyTypes: [Egress]}", false, true),
        ("{podSelector: {}, policyTypes: [Ingress, Egress]}", true, true),
        ("{podSelector: {}, egress: []}", true, false),
        ("{podSelector: {}, egress: [{}]}", true, true),
        (
            "{podSelector: {}, policyTypes: [Egress], ingress: [{}]}",
            false,
            true,
        ),
    ];
    for (spec, ingress, egress) in cases {
        let policy = policy(spec);
        assert_eq!(
            (policy.ingress.is_some(), policy.egress.is_some()),
            (ingress, egress),
            "{spec}"
        );
    }
}

#[test]
fn rules_with_all_that_they_can_have() {
    let policy = policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: \
         [10.1.0.0/16]}}, {podSelector: {}}, {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}], ports: \
         [{port: 80}, {port: http, protocol: TCP}, {port: 8000, endPort: 8100, protocol: UDP}, {protocol: SCTP}]}]}",
    );
    let rules = policy.ingress.as_deref().unwrap();
    let [block, own, all] = rules[0].peers.as_slice() else {
        panic!()
    };
    assert!(matches!(block, NetworkPeer::Block { except, .. } if except.len() == 1));
    assert!(matches!(own, NetworkPeer::Pods { namespaces: None, pods: Some(pods) } if pods.is_empty()));
    assert!(matches!(all, NetworkPeer::Pods { namespaces: Some(all), pods: Some(_) } if all.is_empty()));
    let cases = [
        (Protocol::Tcp, 80, true),
        (Protocol::Udp, 80, false),
        (Protocol::Tcp, 8080, true),
        (Protocol::Udp, 8100, true),
        (Protocol::Udp, 8101, false),
        (Protocol::Tcp, 8050, false),
        (Protocol::Sctp, 1, true),
    ];
    for (protocol, port, through) in cases {
        let found = rules[0].lets_port_through(protocol, port, |name| name == "http" && port == 8080);
        assert_eq!(found, through, "{protocol:?} {port}");
    }
}

#[test]
fn what_is_refused() {
    let ports = |port: &str| format!("{{ingress: [{{ports: [{port}]}}]}}");
    let peer = |peer: &str| format!("{{egress: [{{to: [{peer}]}}]}}");
    let port = "spec.ingress[0].ports[0]";
    let to = "spec.egress[0].to[0]";
    refused(
        &ports("{port: 0}"),
        &format!("{port}.port"),
        "between 1 and 65535",
    );
    refused(
        &ports("{port: \"8080\"}"),
        &format!("{port}.port"),
        "is no port name",
    );
    refused(
        &ports("{port: 9, endPort: 8}"),
        &format!("{port}.endPort"),
        "lower than port",
    );
    refused(
        &ports("{port: a, endPort: 8}"),
        &format!("{port}.endPort"),
        "needs a port that is a number",
    );
    refused(
        &ports("{port: 8, protocol: HTTP}"),
        &format!("{port}.protocol"),
        "use one of TCP, UDP, SCTP",
    );
    refused(&peer("{}"), to, "names nobody");
    refused(
        &peer("{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}"),
        to,
        "ipBlock excludes podSelector",
    );
    refused(
        &peer("{ipBlock: {}}"),
        &format!("{to}.ipBlock"),
        "cidr is missing",
    );
    refused(
        &peer("{ipBlock: {cidr: 10.0.0.1}}"),
        &format!("{to}.ipBlock.cidr"),
        "no address prefix",
    );
    for outside in ["11.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0"] {
        refused(
            &peer(&format!("{{ipBlock: {{cidr: 10.0.0.0/8, except: [{outside}]}}}}")),
            &format!("{to}.ipBlock.except[0]"),
            "does not lie inside",
        );
    }
    refused(
        "{policyTypes: [Both]}",
        "spec.policyTypes[0]",
        "use one of Ingress, Egress",
    );
    refused("{ingres: []}", "spec.ingres", "did you mean ingress?");
}
