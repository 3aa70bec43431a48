use proptest::prelude::*;
use prost_types::Any;

use super::*;

mod on_demand;

const POLICY: &str = "type.example/Policy";
const ADDRESS: &str = "type.example/Address";

fn state() -> State {
    let node = Node {
        id: "ztunnel~1.1.1.1~z.istio-system~x".into(),
        ..Node::default()
    };
    State::new(node, [ADDRESS.to_owned(), POLICY.to_owned()])
}

fn resource(name: &str, version: &str) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        aliases: vec![format!("alias of {name}")],
        resource: Some(Any {
            type_url: POLICY.into(),
            value: version.as_bytes().to_vec(),
        }),
        ..Resource::default()
    }
}

fn response(nonce: &str, resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: POLICY.into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn rejection(name: &str, reason: &str) -> Rejection {
    Rejection {
        name: name.into(),
        reason: reason.into(),
    }
}

/// Takes a response with the given resources rejected.
fn take(state: &mut State, response: DeltaDiscoveryResponse, rejections: &[Rejection]) -> (Update, Answer) {
    let (update, pending) = state.received(response);
    (
        update.unwrap(),
        state.applied(pending, rejections.to_vec(), Instant::now()),
    )
}

fn held(state: &State) -> Vec<(&str, &str)> {
    state.held(POLICY).collect()
}

#[test]
fn a_stream_begins_with_a_wildcard_for_each_type_in_order() {
    let first = state().connected(Instant::now());
    let types: Vec<&str> = first.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(types, [ADDRESS, POLICY]);
    for request in first {
        assert_eq!(request.node.unwrap().id, "ztunnel~1.1.1.1~z.istio-system~x");
        assert!(request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty());
        assert!(request.initial_resource_versions.is_empty());
        assert_eq!(request.response_nonce, "");
    }
}

#[test]
fn a_good_response_is_acknowledged_and_held() {
    let mut state = state();
    let (update, answer) = take(
        &mut state,
        response(
            "n1",
            vec![resource("a", "1"), resource("b", "1")],
            &["never held"],
        ),
        &[],
    );
    assert_eq!(update.type_url, POLICY);
    assert_eq!(update.removed, ["never held"]);
    assert_eq!(
        update.resources[0],
        ResourceUpdate {
            name: "a".into(),
            aliases: vec!["alias of a".into()],
            version: "1".into(),
            payload: Bytes::from_static(b"1"),
        }
    );
    let expected = DeltaDiscoveryRequest {
        type_url: POLICY.into(),
        response_nonce: "n1".into(),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(answer.request, expected);
    assert_eq!(answer.rejected, None);
    assert_eq!(held(&state), [("a", "1"), ("b", "1")]);

    take(&mut state, response("n2", vec![resource("a", "2")], &["b"]), &[]);
    assert_eq!(held(&state), [("a", "2")]);
}

#[test]
fn removals_win_over_updates_of_the_same_response() {
    let mut state = state();
    take(&mut state, response("n", vec![resource("a", "1")], &["a"]), &[]);
    assert_eq!(held(&state), []);
}

#[test]
fn a_rejection_names_resource_and_reason_and_the_rest_is_held() {
    let mut state = state();
    take(&mut state, response("n1", vec![resource("kept", "1")], &[]), &[]);
    let second = response(
        "n2",
        vec![resource("kept", "2"), resource("good", "2"), resource("new", "2")],
        &[],
    );
    let (_, answer) = take(
        &mut state,
        second,
        &[rejection("kept", "port 0"), rejection("new", "no action")],
    );
    assert_eq!(answer.request.response_nonce, "n2");
    let detail = answer.request.error_detail.unwrap();
    assert_eq!(detail.message, "kept: port 0, new: no action");
    assert_eq!(detail.code, 3);
    assert_eq!(answer.rejected.as_deref(), Some("kept: port 0, new: no action"));
    // The version in force of `kept` is the old one, `new` has none.
    assert_eq!(held(&state), [("good", "2"), ("kept", "1"), ("new", "")]);
    assert_eq!(
        state.synced().collect::<Vec<_>>(),
        [POLICY],
        "synced although not all was accepted"
    );
    // Accepted at last.
    take(&mut state, response("n3", vec![resource("new", "3")], &[]), &[]);
    assert_eq!(held(&state), [("good", "2"), ("kept", "1"), ("new", "3")]);
}

#[test]
fn a_new_stream_says_what_is_in_force() {
    let mut state = state();
    let first = response(
        "n1",
        vec![resource("a", "1"), resource("bad", "1"), resource("gone", "1")],
        &[],
    );
    take(&mut state, first, &[rejection("bad", "unknown field")]);
    take(&mut state, response("n2", vec![], &["gone"]), &[]);
    state.disconnected(Instant::now(), 0);
    let again = state.connected(Instant::now());
    assert!(
        again[0].initial_resource_versions.is_empty(),
        "nothing is held of the other type"
    );
    let versions = &again[1].initial_resource_versions;
    let mut versions: Vec<_> = versions.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    versions.sort_unstable();
    // The rejected version is not claimed, but its name is: a placeholder may stand for it.
    assert_eq!(versions, [("a", "1"), ("bad", "")]);
    assert_eq!(again[1].response_nonce, "", "nonces belong to a stream");
}

#[test]
fn what_is_malformed_is_rejected_by_name_and_not_forgotten() {
    let mut state = state();
    let no_body = Resource {
        resource: None,
        ..resource("empty", "1")
    };
    let other = Resource {
        resource: Some(Any {
            type_url: ADDRESS.into(),
            value: vec![],
        }),
        ..resource("other", "1")
    };
    let all = vec![no_body, other, resource("", "1"), resource("good", "1")];
    let (update, answer) = take(&mut state, response("n", all, &[]), &[rejection("x", "y")]);
    let names: Vec<&str> = update
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect();
    assert_eq!(names, ["good"]);
    let unreadable: Vec<(&str, &str)> = update
        .unreadable
        .iter()
        .map(|one| (one.name.as_str(), one.aliases[0].as_str()))
        .collect();
    assert_eq!(
        unreadable,
        [("empty", "alias of empty"), ("other", "alias of other")]
    );
    let message = answer.request.error_detail.unwrap().message;
    for part in [
        "empty: the resource has no body",
        "other: ",
        ": the resource has no name",
        "x: y",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // No version of them is in force; the control plane has to say when they are gone.
    assert_eq!(held(&state), [("empty", ""), ("good", "1"), ("other", "")]);

    // A version that was good stays, and no name stands twice in the answer.
    let no_body = Resource {
        resource: None,
        ..resource("good", "2")
    };
    let (_, answer) = take(
        &mut state,
        response("m", vec![no_body], &[]),
        &[rejection("good", "again")],
    );
    let message = answer.request.error_detail.unwrap().message;
    assert_eq!(message, "good: the resource has no body");
    assert_eq!(held(&state), [("empty", ""), ("good", "1"), ("other", "")]);
}

#[test]
fn an_unknown_type_is_answered_and_otherwise_ignored() {
    let mut state = state();
    let other = DeltaDiscoveryResponse {
        type_url: "type.example/New".into(),
        ..response("n9", vec![], &["x"])
    };
    let (update, pending) = state.received(other);
    assert_eq!(update, None);
    let answer = state.applied(pending, vec![], Instant::now());
    assert_eq!(answer.request.type_url, "type.example/New");
    assert_eq!(answer.request.response_nonce, "n9");
    assert_eq!(answer.request.error_detail, None);
    assert_eq!(state.synced().count(), 0);
}

#[test]
fn an_empty_first_response_is_handed_out_and_makes_the_type_synced() {
    let mut state = state();
    let (update, _) = take(&mut state, response("n", vec![], &[]), &[]);
    assert_eq!((update.resources.len(), update.removed.len()), (0, 0));
    assert_eq!(state.synced().collect::<Vec<_>>(), [POLICY]);
}

#[test]
fn the_text_of_a_rejection_is_bounded() {
    let many: Vec<Rejection> = (0..10_000)
        .map(|i| rejection(&i.to_string(), &"r".repeat(100)))
        .collect();
    let text = describe(&many);
    assert!(text.len() <= MAX_ERROR_DETAIL + 30, "{}", text.len());
    assert!(
        text.starts_with("0: rrr") && text.ends_with(" more"),
        "{}",
        &text[text.len() - 30..]
    );
    assert_eq!(
        describe(&[rejection("a", &"ä".repeat(MAX_ERROR_DETAIL))]).len(),
        MAX_ERROR_DETAIL - 1
    );
}

#[test]
fn waits_double_up_to_a_limit_and_begin_anew_after_a_stream_that_worked() {
    let mut state = state();
    let start = Instant::now();
    // Each stream brings something and fails at once, as one does where a type cannot be served.
    let mut failing = || {
        state.connected(start);
        take(&mut state, response("n", vec![], &[]), &[]);
        state.disconnected(start + STEADY_AFTER / 2, u64::MAX).as_millis()
    };
    let waits: Vec<u128> = (0..12).map(|_| failing()).collect();
    // With the largest entropy, jitter takes nothing but a fraction of a millisecond.
    let expected = [19, 39, 79, 159, 319, 639, 1279, 2559, 5119, 10239, 14999, 14999];
    assert_eq!(waits, expected);
    // Long alone is not enough.
    state.connected(start);
    assert_eq!(state.disconnected(start + STEADY_AFTER * 9, 0), LONGEST_WAIT / 2);
    state.connected(start);
    take(&mut state, response("n", vec![], &[]), &[]);
    assert_eq!(state.disconnected(start + STEADY_AFTER, 0), FIRST_WAIT / 2);
}

proptest! {
    #[test]
    fn every_wait_is_between_half_and_whole(entropy in proptest::collection::vec(any::<u64>(), 1..40)) {
        let mut backoff = Backoff::default();
        let mut whole = FIRST_WAIT;
        for entropy in entropy {
            let wait = backoff.next(entropy);
            prop_assert!(wait >= whole / 2 && wait <= whole && wait >= FIRST_WAIT / 2);
            whole = (whole * 2).min(LONGEST_WAIT);
        }
    }

    /// A server that follows the protocol and a client that loses its stream at any moment agree in the end.
    #[test]
    fn nothing_is_lost_or_left_behind_over_reconnects(
        steps in proptest::collection::vec((0..5u8, 0..8u8, any::<bool>()), 0..60)
    ) {
        let mut client = state();
        let mut in_force: BTreeMap<String, String> = BTreeMap::new();
        let mut server: BTreeMap<String, String> = BTreeMap::new();
        // What the server believes the client has, as of this stream.
        let mut believed: BTreeMap<String, String> = BTreeMap::new();
        let mut version = 0;
        for (step, name, lose) in steps.into_iter().chain([(4, 0, false)]) {
            let name = format!("r{name}");
            match step {
                0 | 1 => { version += 1; server.insert(name, version.to_string()); }
                2 => { server.remove(&name); }
                3 => {
                    client.disconnected(Instant::now(), u64::from(step));
                    let first = client.connected(Instant::now());
                    believed = first[1].initial_resource_versions.clone().into_iter().collect();
                }
                _ => {}
            }
            if step < 3 && lose {
                continue;
            }
            let changed = server.iter().filter(|(name, version)| believed.get(*name) != Some(*version));
            let resources: Vec<Resource> = changed.map(|(name, version)| resource(name, version)).collect();
            let removed: Vec<String> =
                believed.keys().filter(|name| !server.contains_key(*name)).cloned().collect();
            let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
            let response = response("n", resources, &removed);
            if step == 4 && lose {
                // Lost on the way: the server believes it was sent.
                believed.clone_from(&server);
                client.disconnected(Instant::now(), 0);
                believed = client.connected(Instant::now())[1].initial_resource_versions.clone().into_iter().collect();
                continue;
            }
            let (update, pending) = client.received(response);
            let update = update.unwrap();
            // Every version that is divisible by five is unacceptable.
            let mut rejected = Vec::new();
            for resource in update.resources {
                if resource.version.parse::<u32>().unwrap() % 5 == 0 {
                    rejected.push(rejection(&resource.name, "by five"));
                } else {
                    in_force.insert(resource.name, resource.version);
                }
            }
            for name in update.removed {
                in_force.remove(&name);
            }
            client.applied(pending, rejected, Instant::now());
            believed.clone_from(&server);
        }
        // What is in force is the server's, or an older version of what the server has in a form not acceptable.
        for (name, version) in &in_force {
            let theirs = server.get(name);
            prop_assert!(theirs.is_some(), "{} was left behind", name);
            prop_assert!(theirs == Some(version) || theirs.unwrap().parse::<u32>().unwrap() % 5 == 0);
        }
        for (name, version) in &server {
            if version.parse::<u32>().unwrap() % 5 != 0 {
                prop_assert_eq!(in_force.get(name), Some(version));
            }
        }
        // And what the client would say to a new stream is what is in force.
        let claimed: BTreeMap<String, String> =
            client.held(POLICY).filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.into(), v.into())).collect();
        prop_assert_eq!(claimed, in_force);
    }
}

#[test]
fn a_type_that_is_waited_for_is_subscribed_to_only_where_it_is_offered() {
    const OFFERED: &str = "type.example/Offered";
    let offered_response = || DeltaDiscoveryResponse {
        type_url: OFFERED.into(),
        nonce: "n".into(),
        resources: vec![Resource {
            resource: Some(Any {
                type_url: OFFERED.into(),
                value: Vec::new(),
            }),
            ..resource("a", "1")
        }],
        ..DeltaDiscoveryResponse::default()
    };
    let mut state = state().where_offered(OFFERED);
    assert_eq!(state.connected(Instant::now()).len(), 2);
    assert_eq!(state.offered([]), []);
    let (update, pending) = state.received(offered_response());
    assert_eq!(update, None, "nobody asked for it");
    state.applied(pending, Vec::new(), Instant::now());
    assert_eq!(state.held(OFFERED).count(), 0);

    let requests = state.offered([POLICY, "type.example/Unknown", OFFERED]);
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(request.type_url, OFFERED);
    assert!(request.initial_resource_versions.is_empty());
    assert_eq!(state.offered([OFFERED]), [], "once a stream");
    let (update, pending) = state.received(offered_response());
    assert_eq!(update.unwrap().resources.len(), 1);
    state.applied(pending, Vec::new(), Instant::now());

    // The next server may not know it; the one after does.
    assert_eq!(state.connected(Instant::now()).len(), 2);
    let [request] = &state.offered([OFFERED])[..] else {
        panic!()
    };
    assert_eq!(request.initial_resource_versions["a"], "1");
}
