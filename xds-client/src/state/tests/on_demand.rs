use super::*;
use std::cell::Cell;

fn on_demand() -> State {
    let node = Node::default();
    State::new(node, [ADDRESS.to_owned(), POLICY.to_owned()]).on_demand(POLICY)
}

fn also_called(name: &str, aliases: &[&str]) -> Resource {
    Resource {
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        ..resource(name, "1")
    }
}

fn take_at(state: &mut State, response: DeltaDiscoveryResponse, now: Instant) -> Vec<(String, bool)> {
    let (_, pending) = state.received(response);
    state.applied(pending, Vec::new(), now).answered
}

fn sent(state: &mut State) -> (Vec<String>, Vec<String>) {
    let request = state.next_request().expect("something to say");
    assert_eq!(
        (request.type_url.as_str(), request.response_nonce.as_str()),
        (POLICY, "")
    );
    (
        request.resource_names_subscribe,
        request.resource_names_unsubscribe,
    )
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn the_first_request_asks_for_nothing_yet_and_the_other_type_for_all() {
    let first = on_demand().connected(Instant::now());
    assert!(first[0].resource_names_subscribe.is_empty());
    assert_eq!(first[1].resource_names_subscribe, ["*"]);
    assert_eq!(first[1].resource_names_unsubscribe, ["*"]);
}

#[test]
fn a_name_is_asked_for_once_and_answered_by_a_resource_that_is_also_called_so() {
    let (mut state, now) = (on_demand(), Instant::now());
    state.connected(Instant::now());
    assert_eq!(state.want(POLICY, "net/10.0.0.1", now), Want::Asked);
    assert_eq!(state.want(POLICY, "net/10.0.0.1", now), Want::Asked);
    assert_eq!(state.want(POLICY, "net/10.0.0.9", now), Want::Asked);
    assert_eq!(
        sent(&mut state),
        (names(&["net/10.0.0.1", "net/10.0.0.9"]), vec![])
    );
    assert!(!state.has_unsent() && state.next_request().is_none());

    // What was not asked for answers nothing.
    let unasked = response("n1", vec![also_called("uid-7", &["net/10.0.0.7"])], &["x"]);
    assert_eq!(take_at(&mut state, unasked, now), []);
    let found = response(
        "n2",
        vec![also_called("uid-1", &["net/10.0.0.1"])],
        &["net/10.0.0.9"],
    );
    let answered = take_at(&mut state, found, now);
    assert_eq!(
        answered,
        [("net/10.0.0.1".into(), true), ("net/10.0.0.9".into(), false)]
    );
    assert_eq!(state.want(POLICY, "net/10.0.0.1", now), Want::Exists);
    assert_eq!(state.want(POLICY, "net/10.0.0.9", now), Want::Missing);
    assert_eq!(
        state.want(ADDRESS, "anything", now),
        Want::Missing,
        "that type is complete"
    );
}

#[test]
fn a_rejected_resource_answers_too() {
    let (mut state, now) = (on_demand(), Instant::now());
    state.want(POLICY, "bad", now);
    let (_, pending) = state.received(response("n", vec![resource("bad", "1")], &[]));
    let answer = state.applied(pending, vec![rejection("bad", "port 0")], now);
    assert_eq!(answer.answered, [("bad".into(), true)]);
    let empty = Resource {
        resource: None,
        ..resource("empty", "1")
    };
    state.want(POLICY, "empty", now);
    let answered = take_at(&mut state, response("n", vec![empty], &[]), now);
    assert_eq!(answered, [("empty".into(), true)]);
}

#[test]
fn what_does_not_exist_is_asked_anew_after_a_while_and_what_is_removed_no_longer_exists() {
    let (mut state, start) = (on_demand(), Instant::now());
    state.want(POLICY, "net/1", start);
    state.unsent_for_test();
    take_at(
        &mut state,
        response("n1", vec![also_called("uid", &["net/1"])], &[]),
        start,
    );
    take_at(&mut state, response("n2", vec![], &["uid"]), start);
    assert_eq!(state.want(POLICY, "net/1", start), Want::Missing);
    let later = start + MISSING_LIFE;
    assert_eq!(state.want(POLICY, "net/1", later), Want::Asked);
    assert_eq!(sent(&mut state).0, ["net/1"]);
    assert_eq!(state.want(POLICY, "net/1", later), Want::Asked);
    assert!(!state.has_unsent(), "asked once");
}

#[test]
fn a_new_stream_asks_for_everything_wanted_and_says_what_has_no_version_yet() {
    let (mut state, now) = (on_demand(), Instant::now());
    state.connected(Instant::now());
    for name in ["known", "missing", "pending"] {
        state.want(POLICY, name, now);
    }
    take_at(
        &mut state,
        response("n", vec![resource("known", "3")], &["missing"]),
        now,
    );
    state.disconnected(Instant::now(), 0);
    let again = state.connected(Instant::now()).remove(1);
    assert_eq!(
        again.resource_names_subscribe,
        ["*", "known", "missing", "pending"]
    );
    assert_eq!(again.resource_names_unsubscribe, ["*"]);
    let versions: BTreeMap<_, _> = again.initial_resource_versions.into_iter().collect();
    let expected = [
        ("known".to_owned(), "3".to_owned()),
        ("pending".to_owned(), String::new()),
    ];
    assert_eq!(versions, BTreeMap::from(expected));
    assert!(!state.has_unsent(), "the stream began with all of it");
}

#[test]
fn names_nobody_needs_are_given_up_with_what_only_they_led_to() {
    let (mut state, start) = (on_demand(), Instant::now());
    for name in ["net/1", "net/2", "net/3"] {
        state.want(POLICY, name, start);
    }
    let both = also_called("shared", &["net/1", "net/2"]);
    let own = also_called("local", &["net/3"]);
    take_at(&mut state, response("n", vec![both, own], &[]), start);
    state.unsent_for_test();
    let half = start + IDLE_LIFE / 2;
    state.want(POLICY, "net/2", half);
    let late = start + IDLE_LIFE;
    let updates = state.give_up_idle(late, |name| name == "local");
    assert!(updates.is_empty(), "net/2 still leads to it: {updates:?}");
    assert_eq!(sent(&mut state), (vec![], names(&["net/1"])));
    let updates = state.give_up_idle(half + IDLE_LIFE, |name| name == "local");
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].removed, ["shared"]);
    assert_eq!(sent(&mut state), (vec![], names(&["net/2", "shared"])));
    assert_eq!(held(&state), [("local", "1")]);
    // Wanted again: subscribed to again.
    assert_eq!(state.want(POLICY, "net/2", late), Want::Asked);
    assert_eq!(sent(&mut state).0, ["net/2"]);
}

#[test]
fn the_number_of_names_is_bounded() {
    let (mut state, now) = (on_demand(), Instant::now());
    for number in 0..MAX_NAMES {
        state.want(POLICY, &number.to_string(), now);
    }
    assert_eq!(state.want(POLICY, "one more", now), Want::Full);
    assert!(
        !state.make_room(POLICY, now, || |_: &str| false),
        "all of them may exist"
    );
    assert_eq!(state.want(POLICY, "0", now), Want::Asked);
    state.give_up_idle(now + IDLE_LIFE, |_| false);
    assert_eq!(state.want(POLICY, "one more", now + IDLE_LIFE), Want::Asked);
}

/// Whoever scans a network asks for more names than there is room for; nothing is called by them.
#[test]
fn names_of_nothing_make_room_for_others() {
    let (mut state, now) = (on_demand(), Instant::now());
    assert_eq!(state.want(POLICY, "real", now), Want::Asked);
    take(&mut state, response("n", vec![resource("real", "1")], &[]), &[]);
    let scanned: Vec<String> = (0..MAX_NAMES + 10)
        .map(|number| format!("/scanned {number}"))
        .collect();
    for name in &scanned {
        assert_eq!(want_with_room(&mut state, name, now, &[]), Want::Asked, "{name}");
        take(&mut state, response("n", vec![], &[name.as_str()]), &[]);
    }
    assert_eq!(state.want(POLICY, "real", now), Want::Exists);
    assert_eq!(state.want(POLICY, scanned.last().unwrap(), now), Want::Missing);
    // Given up before its time, it is only asked for again.
    assert_eq!(state.want(POLICY, &scanned[0], now), Want::Asked);
    // What the control plane is told in the end: the newest names, and not those that were given up.
    let first = state.connected(now).remove(1);
    let told = first.resource_names_subscribe.len();
    assert!(told > MAX_NAMES - ROOM && told <= 1 + MAX_NAMES, "{told}");
    assert!(!first.resource_names_subscribe.contains(&scanned[1]));

    // And nothing is kept for names of nothing that nobody asks for again.
    let later = Instant::now() + MISSING_LIFE;
    state.want(POLICY, "real", later);
    state.give_up_idle(later, |_| false);
    let first = state.connected(later).remove(1);
    assert_eq!(first.resource_names_subscribe, ["*", "/scanned 0", "real"]);
}

/// Wants a name as the client does, while these are in use.
fn want_with_room(state: &mut State, name: &str, now: Instant, in_use: &[&str]) -> Want {
    match state.want(POLICY, name, now) {
        Want::Full if state.make_room(POLICY, now, || |name: &str| in_use.contains(&name)) => {
            state.want(POLICY, name, now)
        }
        want => want,
    }
}

/// A name may be gone while what it led to is there, such as an address that a pod no longer has.
#[test]
fn names_that_lead_to_something_or_are_in_use_make_no_room() {
    let (mut state, start) = (on_demand(), Instant::now());
    for name in ["net/led", "net/used"] {
        state.want(POLICY, name, start);
    }
    let found = response("n", vec![also_called("uid", &["net/led"])], &["net/used"]);
    take_at(&mut state, found, start);
    take_at(&mut state, response("n", vec![], &["net/led"]), start);
    assert_eq!(state.want(POLICY, "net/led", start), Want::Missing);
    let asked = |state: &mut State| state.connected(start).remove(1).resource_names_subscribe;
    // These have not existed for a shorter time.
    let later = start + Duration::from_millis(1);
    for number in 0..MAX_NAMES + 2 * ROOM {
        let name = format!("/scanned {number}");
        let want = want_with_room(&mut state, &name, later, &["net/used"]);
        assert_eq!(want, Want::Asked, "{name}");
        take_at(&mut state, response("n", vec![], &[name.as_str()]), later);
    }
    let told = asked(&mut state);
    for name in ["net/led", "net/used"] {
        assert!(told.iter().any(|one| one == name), "{name}");
    }
    assert!(held(&state).contains(&("uid", "1")));

    // Where all are in use, that is not looked at for every question.
    let looks = Cell::new(0);
    let make_room = |state: &mut State, now| {
        state.make_room(POLICY, now, || {
            looks.set(looks.get() + 1);
            |_: &str| true
        })
    };
    let mut number = 0;
    while state.want(POLICY, &format!("/more {number}"), start) != Want::Full {
        number += 1;
    }
    for _ in 0..3 {
        assert!(!make_room(&mut state, start));
    }
    assert_eq!(looks.get(), 1);
    assert!(!make_room(&mut state, start + NO_ROOM_LIFE));
    assert_eq!(looks.get(), 2);

    // What only such a name led to is given up with it in its time, and told.
    let updates = state.give_up_idle(start + MISSING_LIFE, |_| false);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].removed, ["uid"]);
    assert_eq!(held(&state), []);
}

/// Once what it led to is gone as well, it makes room.
#[test]
fn a_name_whose_resource_goes_after_it_makes_room() {
    let (mut state, now) = (on_demand(), Instant::now());
    state.want(POLICY, "net/led", now);
    take_at(
        &mut state,
        response("n", vec![also_called("uid", &["net/led"])], &[]),
        now,
    );
    for number in 1..MAX_NAMES {
        state.want(POLICY, &number.to_string(), now);
    }
    take_at(&mut state, response("n", vec![], &["net/led"]), now);
    assert_eq!(want_with_room(&mut state, "one more", now, &[]), Want::Full);
    take_at(&mut state, response("n", vec![], &["uid"]), now);
    assert_eq!(want_with_room(&mut state, "one more", now, &[]), Want::Asked);
}

#[test]
fn what_was_held_before_the_process_began_is_told() {
    let mut state = state().holding(POLICY, [("a".to_owned(), "7".to_owned())]);
    let first = state.connected(Instant::now());
    assert!(first[0].initial_resource_versions.is_empty());
    assert_eq!(first[1].initial_resource_versions["a"], "7");
    assert_eq!(state.synced().count(), 0, "what is old is not in sync");
}

impl State {
    /// Says everything that is to be said, unseen.
    fn unsent_for_test(&mut self) {
        while self.next_request().is_some() {}
    }
}

/// A control plane on the other side: what exists, and what it was asked for on this stream.
#[derive(Default)]
struct Server {
    /// By address, the resource that has it and its version.
    exists: BTreeMap<String, (String, u32)>,
    wanted: BTreeSet<String>,
    /// Names to be answered, changed or not.
    owed: BTreeSet<String>,
}

impl Server {
    fn told(&mut self, request: &DeltaDiscoveryRequest) {
        // What the client holds from before it wants to be told of.
        for (name, (uid, version)) in &self.exists {
            if let Some(held) = request.initial_resource_versions.get(uid) {
                self.wanted.insert(name.clone());
                if *held != version.to_string() {
                    self.owed.insert(name.clone());
                }
            }
        }
        for name in &request.resource_names_subscribe {
            if name != "*" {
                self.wanted.insert(name.clone());
                self.owed.insert(name.clone());
            }
        }
        for name in &request.resource_names_unsubscribe {
            self.wanted.remove(name);
            self.owed.remove(name);
        }
    }

    fn response(&mut self) -> DeltaDiscoveryResponse {
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        for name in std::mem::take(&mut self.owed) {
            match self.exists.get(&name) {
                Some((uid, version)) => resources.push(Resource {
                    version: version.to_string(),
                    ..also_called(uid, &[name.as_str()])
                }),
                None => removed.push(name),
            }
        }
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        response("n", resources, &removed)
    }
}

proptest! {
    /// Whatever is asked, lost and answered in whatever order: in the end every name that is wanted has the server's
    /// answer, nobody waits for ever, and what is held is subscribed to.
    #[test]
    fn every_question_is_answered_as_the_server_knows_it(
        steps in proptest::collection::vec((0..6u8, 0..6u8), 0..80)
    ) {
        let (mut client, mut server) = (on_demand(), Server::default());
        let now = Cell::new(Instant::now());
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        let mut open = false;
        // In the end: a stream, and two rounds of questions and answers.
        let ending = [(3, 0), (4, 0), (5, 0), (4, 0), (5, 0)];
        for (step, number) in steps.into_iter().chain(ending) {
            let name = format!("net/{number}");
            match step {
                0 => {
                    let answer = client.want(POLICY, &name, now.get());
                    if answer == Want::Asked { waiting.insert(name); }
                }
                1 => {
                    let version = server.exists.get(&name).map_or(1, |(_, version)| version + 1);
                    server.exists.insert(name.clone(), (format!("uid-{number}"), version));
                    if server.wanted.contains(&name) { server.owed.insert(name); }
                }
                2 => {
                    now.set(now.get() + IDLE_LIFE / 3);
                    client.give_up_idle(now.get(), |name| waiting.contains(name));
                }
                3 => {
                    client.disconnected(Instant::now(), 0);
                    server.wanted.clear();
                    server.owed.clear();
                    let first = client.connected(Instant::now());
                    server.told(&first[1]);
                    open = true;
                }
                4 if open => while let Some(request) = client.next_request() { server.told(&request) },
                5 if open => {
                    let answered = take_at(&mut client, server.response(), now.get());
                    for (name, exists) in answered {
                        waiting.remove(&name);
                        prop_assert_eq!(exists, server.exists.contains_key(&name), "{}", name);
                    }
                }
                _ => {}
            }
        }
        prop_assert!(waiting.is_empty(), "never answered: {:?}", waiting);
        for (uid, version) in client.held(POLICY) {
            let by_server = server.exists.iter().find(|(_, (name, _))| name == uid);
            let (name, (_, current)) = by_server.unwrap();
            prop_assert!(server.wanted.contains(name), "{} is held and not kept up to date", uid);
            prop_assert_eq!(version, current.to_string());
        }
    }
}
