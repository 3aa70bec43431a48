use crate::testing::{SHOP, ask, told, world};

fn service(ports: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: web}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {selector}, ports: {ports}}}\n"
    )
}

fn pod(name: &str, labels: &str, ports: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {labels}}}\n\
         spec: {{containers: [{{name: a, ports: {ports}}}]}}\nstatus: {{podIP: {ip}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: shop, name: {name}}}\nspec: {spec}\n"
    )
}

fn peer_authentication(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{namespace: shop, name: {name}}}\nspec: {spec}\n"
    )
}

#[test]
fn each_caller_speaks_as_it_would() {
    let allow = policy(
        "a",
        "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]}",
    );
    let mesh = world(&format!("{SHOP}{allow}"));
    for (from, expected) in [
        ("shop/client", "allow allowed_by_policy"),
        ("sa:shop/client", "allow allowed_by_policy"),
        ("sa:shop/client@10.1.0.2", "allow allowed_by_policy"),
        ("sa:shop/other", "deny no_allow_policy_matched"),
        ("outside/legacy", "deny no_allow_policy_matched"),
        ("plaintext:10.1.0.2", "deny no_allow_policy_matched"),
        ("shop/web", "allow itself"),
        ("shop/nobody", "there is no pod shop/nobody"),
    ] {
        assert_eq!(told(&mesh, from, "shop/web:8080"), expected, "{from}");
    }
    let strict = world(&format!(
        "{SHOP}{}",
        peer_authentication("s", "{mtls: {mode: STRICT}}")
    ));
    for (from, expected) in [
        ("shop/client", "allow no_allow_policy"),
        ("sa:else/where", "allow no_allow_policy"),
        ("outside/legacy", "deny mtls_required"),
        ("plaintext:1.2.3.4", "deny mtls_required"),
    ] {
        assert_eq!(told(&strict, from, "shop/web:8080"), expected, "{from}");
    }
    let answer = ask(&strict, "outside/legacy", "shop/web:8080").unwrap();
    assert_eq!(
        answer.notes,
        [
            "outside/legacy speaks plaintext: it is not in the mesh: neither it nor its namespace is labelled \
          istio.io/dataplane-mode=ambient"
        ]
    );
}

#[test]
fn outside_of_the_mesh_nobody_asks_a_policy() {
    let deny = policy("d", "{action: DENY, rules: [{}]}");
    let mesh = world(&format!(
        "{SHOP}{}",
        deny.replace("namespace: shop", "namespace: outside")
    ));
    let answer = ask(&mesh, "shop/client", "outside/legacy:15008").unwrap();
    assert!(answer.is_allowed());
    assert_eq!(
        answer.decisive().reason(),
        "outside/legacy is not in the mesh: neither it nor its namespace is labelled istio.io/dataplane-mode=ambient"
    );
    assert!(
        told(&mesh, "outside/legacy", "shop/web:15008").contains("15008"),
        "a port of the proxy itself"
    );
}

/// "Without an address it matches no ipBlocks", however wide, and then `notIpBlocks` keep nobody out.
#[test]
fn a_caller_without_an_address_is_in_no_block() {
    for (spec, without, with) in [
        (
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}",
            "deny",
            "allow",
        ),
        (
            "{rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]}",
            "allow",
            "deny",
        ),
        (
            "{action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}",
            "allow",
            "deny",
        ),
        (
            "{action: DENY, rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]}",
            "deny",
            "allow",
        ),
        (
            "{rules: [{when: [{key: source.ip, values: [10.0.0.0/8]}]}]}",
            "deny",
            "allow",
        ),
        (
            "{rules: [{from: [{source: {ipBlocks: [0.0.0.0/0, '::/0']}}]}]}",
            "deny",
            "allow",
        ),
        (
            "{action: DENY, rules: [{from: [{source: {ipBlocks: [0.0.0.0/0, '::/0']}}]}]}",
            "allow",
            "deny",
        ),
    ] {
        let mesh = world(&format!("{SHOP}{}", policy("p", spec)));
        let verdict = |from: &str| {
            if ask(&mesh, from, "shop/web:80").unwrap().is_allowed() {
                "allow"
            } else {
                "deny"
            }
        };
        assert_eq!(verdict("sa:shop/client@10.7.7.7"), with, "{spec}");
        assert_eq!(verdict("sa:shop/client"), without, "{spec}");
        let notes = ask(&mesh, "sa:shop/client", "shop/web:80").unwrap().notes;
        assert_eq!(
            notes,
            [
                "sa:shop/client has no address, so it is in no ipBlocks, and notIpBlocks keep nobody out: shop/p may \
              decide otherwise for an address; ask with @IP"
            ]
        );
        assert!(
            ask(&mesh, "sa:shop/client@10.7.7.7", "shop/web:80")
                .unwrap()
                .notes
                .is_empty()
        );
    }
}

#[test]
fn a_service_leads_to_the_port_of_each_endpoint() {
    let deny = policy(
        "d",
        "{action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]}",
    );
    for (ports, port, expected) in [
        ("[{port: 80, targetPort: 8080}]", 80, "deny denied_by_policy"),
        ("[{port: 8080, targetPort: 9090}]", 8080, "allow no_allow_policy"),
        ("[{port: 80, targetPort: http}]", 80, "deny denied_by_policy"),
        ("[{port: 8080}]", 8080, "deny denied_by_policy"),
        (
            "[{port: 53, protocol: UDP}]",
            53,
            "nothing can be said about Service shop/web: port 53 is not TCP, and the mesh carries nothing else",
        ),
        (
            "[{port: 80}]",
            81,
            "nothing can be said about Service shop/web: it has no port 81: its ports are 80",
        ),
    ] {
        let mesh = world(&format!("{SHOP}{deny}{}", service(ports, "{app: web}")));
        assert_eq!(
            told(&mesh, "shop/client", &format!("service:shop/web:{port}")),
            expected,
            "{ports}"
        );
    }
}

#[test]
fn one_endpoint_that_refuses_is_enough_and_each_is_listed() {
    let text = [
        SHOP,
        &pod("web-b", "{app: web, part: b}", "[{name: http, containerPort: 7070}]", "10.1.0.3"),
        &pod("web-c", "{app: web}", "[{name: other, containerPort: 6060}]", "10.1.0.4"),
        &policy("d", "{selector: {matchLabels: {part: b}}, action: DENY, rules: [{to: [{operation: {ports: ['7070']}}]}]}"),
        &service("[{name: a, port: 80, targetPort: http}]", "{app: web}"),
    ]
    .concat();
    let mesh = world(&text);
    let answer = ask(&mesh, "shop/client", "service:shop/web:80").unwrap();
    assert!(!answer.is_allowed());
    let endpoints: Vec<String> = answer
        .endpoints
        .iter()
        .map(|endpoint| format!("{} {} {}", endpoint.pod, endpoint.address, endpoint.code()))
        .collect();
    assert_eq!(
        endpoints,
        [
            "shop/web 10.1.0.1:8080 no_allow_policy",
            "shop/web-b 10.1.0.3:7070 denied_by_policy"
        ]
    );
    assert_eq!(answer.decisive().pod, "shop/web-b");
    assert_eq!(
        answer.notes,
        ["shop/web-c is no endpoint for port 80: it has no container port of that name"]
    );
    let json = answer.to_json();
    assert_eq!(json["verdict"], "deny");
    assert_eq!(json["policy"], "shop/d");
    assert_eq!(json["endpoints"][0]["verdict"], "allow");
    assert_eq!(json["endpoints"][1]["code"], "denied_by_policy");
}

#[test]
fn a_service_without_endpoints_has_no_answer() {
    let mesh = world(&format!("{SHOP}{}", service("[{port: 80}]", "{app: gone}")));
    assert_eq!(
        told(&mesh, "shop/client", "service:shop/web:80"),
        "nothing can be said about Service shop/web: no pod is an endpoint of it"
    );
    assert_eq!(
        told(&mesh, "shop/client", "service:shop/none:80"),
        "there is no Service shop/none"
    );
}

#[test]
fn addresses_of_one_family_meet() {
    let text = SHOP.replace(
        "{podIP: 10.1.0.1}",
        "{podIPs: [{ip: '2001:db8::1'}, {ip: 10.1.0.1}]}",
    );
    let mesh = world(&text);
    let arrives = |from: &str| {
        ask(&mesh, from, "shop/web:80")
            .unwrap()
            .decisive()
            .address
            .to_string()
    };
    assert_eq!(arrives("shop/client"), "10.1.0.1:80");
    assert_eq!(arrives("plaintext:2001:db8::9"), "[2001:db8::1]:80");
    assert_eq!(
        told(&mesh, "plaintext:2001:db8::9", "shop/client:80"),
        "2001:db8::9 cannot connect to 10.1.0.2: one is IPv4, the other IPv6"
    );
}

#[test]
fn policies_of_waypoints_are_named_as_not_asked() {
    let attached = policy(
        "w",
        "{targetRefs: [{kind: Service, group: '', name: web}], action: DENY, rules: [{}]}",
    );
    let mesh = world(&format!("{SHOP}{attached}"));
    let answer = ask(&mesh, "shop/client", "shop/web:80").unwrap();
    assert!(answer.is_allowed());
    assert_eq!(
        answer.notes,
        ["not asked: shop/w, which targetRefs attach to a waypoint; node proxies do not enforce them"]
    );
}

/// What passes a waypoint is the waypoint's to decide; its endpoints meet the waypoint. Who has no node proxy passes none.
#[test]
fn a_waypoint_in_front_decides_and_is_who_the_endpoints_see() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: waylaid, namespace: shop, labels: \
                   {istio.io/use-waypoint: gate}}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: gate, namespace: \
                   shop}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: \
                   HBONE}]}\n";
    let attached = policy(
        "w",
        "{targetRefs: [{kind: Service, group: '', name: waylaid}], action: DENY, rules: [{}]}",
    );
    let only_gate = policy(
        "only-gate",
        "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/gate]}}]}]}",
    );
    let mesh = world(&format!("{SHOP}{service}{gateway}{attached}{only_gate}"));
    let answer = ask(&mesh, "shop/client", "service:shop/waylaid:80").unwrap();
    assert!(answer.is_allowed(), "{answer}");
    assert_eq!(
        answer.notes[0],
        "goes through the waypoint shop/gate: shop/w is its to decide, and not asked here; the endpoints see the \
         waypoint, spiffe://cluster.local/ns/shop/sa/gate, not the caller"
    );
    assert!(
        !answer.notes.iter().any(|note| note.contains("not asked: shop/w")),
        "{answer}"
    );
    // Around it: the same policies of the node proxy, and the caller itself.
    assert!(!ask(&mesh, "shop/client", "shop/web:80").unwrap().is_allowed());
    assert!(
        !ask(&mesh, "outside/legacy", "service:shop/waylaid:80")
            .unwrap()
            .is_allowed()
    );
    // Nobody goes around a waypoint that is not there and that a policy counts on.
    let mesh = world(&format!("{SHOP}{service}{attached}"));
    let answer = ask(&mesh, "shop/client", "service:shop/waylaid:80").unwrap();
    assert_eq!(answer.decisive().code(), "waypoint_unknown");
    assert!(!answer.is_allowed());
    assert!(
        answer
            .to_string()
            .contains("because the AuthorizationPolicy shop/w counts on it"),
        "{answer}"
    );
}

#[test]
fn an_answer_names_the_users_object_and_what_would_change_it() {
    let strict = peer_authentication("s", "{mtls: {mode: STRICT}}");
    let allow = policy(
        "a",
        "{rules: [{to: [{operation: {methods: [GET]}}]}, \
          {from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}], to: [{operation: {ports: ['9090']}}]}]}",
    );
    let tried = policy("t", "{action: DENY, rules: [{}]}")
        .replace("name: t}", "name: t, annotations: {istio.io/dry-run: 'true'}}");
    let mesh = world(&format!("{SHOP}{strict}{allow}{tried}"));

    let json = ask(&mesh, "outside/legacy", "shop/web:8080").unwrap().to_json();
    assert_eq!(
        [&json["verdict"], &json["policy"], &json["kind"], &json["code"]],
        ["deny", "shop/s", "PeerAuthentication", "mtls_required"]
    );
    let json = ask(&mesh, "shop/client", "shop/web:9090").unwrap().to_json();
    assert_eq!(
        [&json["verdict"], &json["policy"], &json["kind"], &json["code"]],
        ["allow", "shop/a", "AuthorizationPolicy", "allowed_by_policy"]
    );
    assert_eq!(
        json["rule"], 1,
        "the rule of the object, though the first is left out"
    );
    assert_eq!(json["dry_run"][0]["policy"], "shop/t");
    assert_eq!(json["dry_run"][0]["verdict"], "deny");
    assert_eq!(json["not_enforced"][0]["attributes"][0], "methods");

    let refused = ask(&mesh, "shop/client", "shop/web:8080").unwrap();
    let json = refused.to_json();
    assert_eq!(json["policy"], serde_json::Value::Null);
    assert_eq!(
        json["nearest_miss"],
        "would be allowed if the port were 9090 (ALLOW policy shop/a, rule 1)"
    );
    let text = refused.to_string();
    for part in [
        "would be allowed if the port were 9090",
        "not enforced: methods of rule 0 of shop/a",
        "dry run: with shop/t",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_whole_tree_tells_what_failed_in_each_rule() {
    let text = [
        SHOP,
        &policy("a", "{rules: [{from: [{source: {namespaces: [pay]}}, {source: {ipBlocks: [10.7.0.0/16]}}]}]}"),
        &policy("b", "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{to: [{operation: {ports: ['81']}}]}]}"),
        &policy("c", "{selector: {matchLabels: {app: web}}}"),
        &policy("d", "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}"),
    ]
    .concat();
    let mesh = world(&text);
    let question = ("shop/client".parse().unwrap(), "shop/web:8080".parse().unwrap());
    let answer = mesh.explain(&question.0, &question.1).unwrap();
    assert_eq!(
        answer.to_json(),
        mesh.ask(&question.0, &question.1).unwrap().to_json(),
        "one answer"
    );
    let tree = answer.tree().to_string();
    for line in [
        "shop/web at 10.1.0.1:8080",
        "  AuthorizationPolicy shop/a, for its namespace: ALLOW does not match",
        "    rule 0 does not match",
        "      source namespace: wanted pay, is shop",
        "      nor source address: wanted 10.7.0.0/16, is 10.1.0.2",
        "  AuthorizationPolicy shop/b, for this workload: DENY does not match",
        "      destination port: wanted 81, is 8080",
        "  AuthorizationPolicy shop/c, for this workload: ALLOW has no rules, so it matches nothing",
        "      nothing is left of it that a node proxy can decide, so it never matches",
    ] {
        assert!(tree.lines().any(|found| found == line), "{line:?} in\n{tree}");
    }
    let json = answer.tree().to_json();
    assert_eq!(json["endpoints"][0]["policies"][0]["outcome"], "not_matched");
    assert_eq!(
        json["endpoints"][0]["policies"][0]["rules"][0]["clauses"][0]["failed"][0][0],
        "source namespace: wanted pay, is shop"
    );
    let unknown = mesh
        .explain(&"sa:shop/client".parse().unwrap(), &question.1)
        .unwrap()
        .tree()
        .to_string();
    assert!(
        unknown.contains("nor source address: wanted 10.7.0.0/16, has none"),
        "{unknown}"
    );
}

/// What was stored and cannot be read closes, and says what cannot be read: in the reason and in the tree.
#[test]
fn a_closed_policy_says_why_it_is_closed() {
    let stored = |kind: objects::Kind| {
        let value = serde_json::json!({
            "apiVersion": "security.istio.io/v1", "kind": kind.as_str(),
            "metadata": {"name": "old", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"a": 1}}},
        });
        let key = objects::ObjectKey::new(kind, "shop", "old");
        std::sync::Arc::new(objects::Object::from_stored_value(&value, &key).unwrap())
    };
    let cases = [
        (
            objects::Kind::AuthorizationPolicy,
            "policy_not_understood",
            "is not understood, so it refuses everybody: ",
        ),
        (
            objects::Kind::PeerAuthentication,
            "mtls_required",
            "(it cannot be read and so counts as STRICT: ",
        ),
    ];
    let mut mesh = world(SHOP);
    for (kind, code, words) in cases {
        let answer = mesh.with([stored(kind)], |mesh| {
            let (from, to) = (
                "outside/legacy".parse().unwrap(),
                "shop/web:8080".parse().unwrap(),
            );
            mesh.explain(&from, &to).unwrap()
        });
        assert_eq!(answer.decisive().code(), code);
        let reason = answer.decisive().reason();
        assert!(
            reason.contains("shop/old") && reason.contains("matchLabels"),
            "{reason}"
        );
        let tree = answer.tree().to_string();
        assert!(tree.contains(words), "{tree}");
    }
}
