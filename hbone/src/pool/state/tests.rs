use std::cell::RefCell;
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const ROOM: usize = 3;

fn limits() -> Limits {
    Limits {
        streams_per_connection: ROOM,
        connections_per_key: 2,
        keys: 3,
        idle_after: Duration::from_secs(300),
        ..Limits::default()
    }
}

fn usable(_: &u32) -> Option<Condition> {
    with_room(100)
}

fn with_room(room: usize) -> Option<Condition> {
    Some(Condition {
        room,
        heard: Instant::now(),
        blocked_since: None,
    })
}

/// Makes a connection of this key and returns it, leased once.
fn make(state: &mut State<&'static str, u32>, key: &'static str, name: u32, now: Instant) -> ConnectionId {
    let Checkout::Dial(dial) = state.checkout(&key, now, usable) else {
        panic!("no dial for {key}")
    };
    state.dialled(dial, name, now).unwrap()
}

#[test]
fn one_dial_per_key_and_then_shared() {
    let now = Instant::now();
    let mut state = State::new(limits());
    let Checkout::Dial(dial) = state.checkout(&"a", now, usable) else {
        panic!()
    };
    assert_eq!(state.checkout(&"a", now, usable), Checkout::Wait(dial));
    assert!(matches!(state.checkout(&"b", now, usable), Checkout::Dial(other) if other != dial));
    let id = state.dialled(dial, 1, now).unwrap();
    assert_eq!(state.checkout(&"a", now, usable), Checkout::Use(id, 1));
}

#[test]
fn a_failed_dial_is_tried_again_by_the_next() {
    let now = Instant::now();
    let mut state = State::<_, u32>::new(limits());
    let Checkout::Dial(dial) = state.checkout(&"a", now, usable) else {
        panic!()
    };
    state.dial_failed(dial);
    assert_eq!(state.counts(), Counts::default());
    assert!(matches!(state.checkout(&"a", now, usable), Checkout::Dial(next) if next != dial));
}

#[test]
fn a_full_connection_gets_a_sibling_and_returns_to_service() {
    let now = Instant::now();
    let mut state = State::new(limits());
    let first = make(&mut state, "a", 1, now);
    for _ in 1..ROOM {
        assert_eq!(state.checkout(&"a", now, usable), Checkout::Use(first, 1));
    }
    let second = make(&mut state, "a", 2, now);
    for _ in 1..ROOM {
        assert_eq!(state.checkout(&"a", now, usable), Checkout::Use(second, 2));
    }
    assert_eq!(
        state.checkout(&"a", now, usable),
        Checkout::Refused(Refusal::ConnectionsPerKey(2))
    );
    state.release(first, now);
    assert_eq!(state.checkout(&"a", now, usable), Checkout::Use(first, 1));
}

#[test]
fn the_peers_limit_counts_when_it_is_lower() {
    let now = Instant::now();
    let mut state = State::new(limits());
    make(&mut state, "a", 1, now);
    assert!(matches!(
        state.checkout(&"a", now, |_| with_room(1)),
        Checkout::Dial(_)
    ));
}

#[test]
fn what_is_no_longer_usable_leaves_and_its_tunnels_still_count() {
    let now = Instant::now();
    let mut state = State::new(limits());
    let id = make(&mut state, "a", 1, now);
    assert!(matches!(state.checkout(&"a", now, |_| None), Checkout::Dial(_)));
    assert_eq!(state.take_discarded(), [1]);
    assert_eq!(state.counts().leased, 1);
    state.release(id, now);
    assert_eq!(state.counts().leased, 0);
}

#[test]
fn a_doubted_connection_is_passed_over_until_its_peer_is_heard() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut state = State::new(limits());
    let heard_at = |heard| {
        move |_: &u32| {
            Some(Condition {
                room: 100,
                heard,
                blocked_since: None,
            })
        }
    };
    let old = make(&mut state, "a", 1, start);
    state.doubt(old, at(5));
    let Checkout::Dial(dial) = state.checkout(&"a", at(5), heard_at(at(3))) else {
        panic!("not passed over")
    };
    assert_eq!(
        state.checkout(&"a", at(6), heard_at(at(3))),
        Checkout::Wait(dial),
        "one dial for all who find it silent"
    );
    assert_eq!(
        state.checkout(&"a", at(7), heard_at(at(7))),
        Checkout::Use(old, 1),
        "heard again, so who waits for the dial no longer has to"
    );
    assert_eq!(
        state.checkout(&"a", at(8), heard_at(at(3))),
        Checkout::Use(old, 1),
        "the doubt is over for good"
    );
}

#[test]
fn a_blocked_connection_gets_siblings_and_serves_again_when_it_moves() {
    let start = Instant::now();
    let soon = start + limits().blocked_after / 2;
    let later = start + limits().blocked_after;
    let mut state = State::new(limits());
    let blocked = |name: &u32| {
        Some(Condition {
            room: 100,
            heard: start,
            blocked_since: (*name == 1).then_some(start),
        })
    };
    let first = make(&mut state, "a", 1, start);
    assert_eq!(
        state.checkout(&"a", soon, blocked),
        Checkout::Use(first, 1),
        "for a moment only"
    );
    let Checkout::Dial(dial) = state.checkout(&"a", later, blocked) else {
        panic!("no sibling")
    };
    let second = state.dialled(dial, 2, later).unwrap();
    assert_eq!(state.checkout(&"a", later, blocked), Checkout::Use(second, 2));
    assert_eq!(
        state.checkout(&"a", later, usable),
        Checkout::Use(first, 1),
        "moves again"
    );

    state.release(first, later);
    let both = |_: &u32| {
        Some(Condition {
            room: 100,
            heard: start,
            blocked_since: Some(start),
        })
    };
    assert_eq!(
        state.checkout(&"a", later, both),
        Checkout::Use(first, 1),
        "no more siblings are allowed, and late is better than never"
    );
}

#[test]
fn idle_connections_leave_after_five_minutes_and_busy_ones_stay() {
    let start = Instant::now();
    let mut state = State::new(limits());
    let id = make(&mut state, "a", 1, start);
    let day = start + Duration::from_secs(86_400);
    state.expire(day, usable);
    assert!(state.take_discarded().is_empty(), "in use");
    state.release(id, day);
    state.expire(day + Duration::from_secs(299), usable);
    assert!(state.take_discarded().is_empty());
    state.expire(day + Duration::from_secs(300), usable);
    assert_eq!(state.take_discarded(), [1]);
    assert_eq!(state.counts(), Counts::default());
}

#[test]
fn the_longest_idle_key_gives_way_to_a_new_one() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut state = State::new(limits());
    let ids: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .zip(1..)
        .map(|(key, name)| make(&mut state, key, name, start))
        .collect();
    assert_eq!(
        state.checkout(&"d", at(1), usable),
        Checkout::Refused(Refusal::Keys(3))
    );
    state.release(ids[1], at(2));
    state.release(ids[0], at(3));
    assert!(matches!(state.checkout(&"d", at(4), usable), Checkout::Dial(_)));
    assert_eq!(state.take_discarded(), [2]);
}

#[test]
fn closing_takes_matching_keys_and_makes_their_dials_unwanted() {
    let now = Instant::now();
    let mut state = State::new(limits());
    make(&mut state, "a", 1, now);
    make(&mut state, "b", 2, now);
    let Checkout::Dial(dial) = state.checkout(&"c", now, usable) else {
        panic!()
    };
    let mut closed = state.close_matching(|key| *key != "b");
    closed.sort_unstable();
    assert_eq!(closed, [1]);
    assert_eq!(state.dialled(dial, 3, now), None);
    assert!(matches!(state.checkout(&"a", now, usable), Checkout::Dial(_)));
    assert!(matches!(state.checkout(&"b", now, usable), Checkout::Use(_, 2)));
}

#[test]
fn draining_refuses_and_ends_with_the_last_tunnel() {
    let now = Instant::now();
    let mut state = State::new(limits());
    let busy = make(&mut state, "a", 1, now);
    let idle = make(&mut state, "b", 2, now);
    state.release(idle, now);
    let Checkout::Dial(dial) = state.checkout(&"c", now, usable) else {
        panic!()
    };
    assert_eq!(state.drain(), [2]);
    assert_eq!(
        state.checkout(&"a", now, usable),
        Checkout::Refused(Refusal::Draining)
    );
    assert_eq!(state.dialled(dial, 3, now), None);
    assert!(!state.is_drained());
    state.release(busy, now);
    assert!(state.is_drained());
    assert_eq!(state.take_discarded(), [1]);
    assert_eq!(state.counts(), Counts::default());
}

#[derive(Clone, Debug)]
enum Step {
    Checkout(u8),
    Dialled(usize),
    Failed(usize),
    Release(usize),
    Break(usize),
    Doubt(usize),
    Hear(usize),
    Block(usize),
    Unblock(usize),
    Pass(u16),
    Expire,
    Close(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..5).prop_map(Step::Checkout),
        3 => any::<usize>().prop_map(Step::Dialled),
        1 => any::<usize>().prop_map(Step::Failed),
        4 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Break),
        2 => any::<usize>().prop_map(Step::Doubt),
        2 => any::<usize>().prop_map(Step::Hear),
        2 => any::<usize>().prop_map(Step::Block),
        1 => any::<usize>().prop_map(Step::Unblock),
        1 => (0u16..400).prop_map(Step::Pass),
        1 => Just(Step::Expire),
        1 => (0u8..5).prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..200)
}

/// What must hold, kept in the plainest way.
#[derive(Default)]
struct Model {
    dials: Vec<(DialId, u8)>,
    /// Dials that were made unwanted.
    unwanted: HashSet<DialId>,
    leases: Vec<(ConnectionId, u32)>,
    /// Connection names by key, as handed out; and those that have left.
    keys: HashMap<u32, u8>,
    left: HashSet<u32>,
    broken: RefCell<HashSet<u32>>,
    heard: HashMap<u32, Instant>,
    doubted: HashMap<u32, Instant>,
    blocked: HashMap<u32, Instant>,
    next: u32,
}

proptest! {
    #[test]
    fn every_sequence_keeps_the_rules(steps in steps()) {
        let mut now = Instant::now();
        let mut state: State<u8, u32> = State::new(limits());
        let mut model = Model::default();
        for step in steps {
            let broken = model.broken.borrow().clone();
            let (heard, blocked) = (model.heard.clone(), model.blocked.clone());
            let look = |name: &u32| {
                (!broken.contains(name)).then(|| Condition {
                    room: 100,
                    heard: heard[name],
                    blocked_since: blocked.get(name).copied(),
                })
            };
            let pick = |pick: usize| (pick % model.next.max(1) as usize) as u32 + 1;
            match step {
                Step::Checkout(key) => match state.checkout(&key, now, look) {
                    Checkout::Use(id, name) => {
                        prop_assert_eq!(model.keys[&name], key, "never shared between keys");
                        prop_assert!(!broken.contains(&name) && !model.left.contains(&name));
                        model.leases.push((id, name));
                        let on_it = model.leases.iter().filter(|(lease, _)| *lease == id).count();
                        prop_assert!(on_it <= ROOM);
                        let doubted = model.doubted.get(&name);
                        prop_assert!(doubted.is_none_or(|doubted| heard[&name] > *doubted), "silent");
                        let jammed = blocked.get(&name).is_some_and(|since| now - *since >= limits().blocked_after);
                        let listed = model.keys.iter().filter(|(name, k)| **k == key && !model.left.contains(name));
                        prop_assert!(!jammed || listed.count() == 2, "blocked, and another was allowed");
                    }
                    Checkout::Wait(dial) => prop_assert!(model.dials.contains(&(dial, key))),
                    Checkout::Dial(dial) => {
                        let under_way = model.dials.iter().filter(|(d, k)| *k == key && !model.unwanted.contains(d));
                        prop_assert_eq!(under_way.count(), 0, "one dial per key");
                        model.dials.push((dial, key));
                    }
                    Checkout::Refused(Refusal::ConnectionsPerKey(full)) => prop_assert_eq!(full, 2),
                    Checkout::Refused(Refusal::Keys(_)) => prop_assert_eq!(state.counts().keys, 3),
                    Checkout::Refused(Refusal::Draining) => prop_assert!(false),
                },
                Step::Dialled(pick) if !model.dials.is_empty() => {
                    let (dial, key) = model.dials.swap_remove(pick % model.dials.len());
                    model.next += 1;
                    let name = model.next;
                    let id = state.dialled(dial, name, now);
                    prop_assert_eq!(id.is_none(), model.unwanted.contains(&dial));
                    if let Some(id) = id {
                        model.keys.insert(name, key);
                        model.leases.push((id, name));
                        model.heard.insert(name, now);
                    }
                }
                Step::Failed(pick) if !model.dials.is_empty() => {
                    let (dial, _) = model.dials.swap_remove(pick % model.dials.len());
                    state.dial_failed(dial);
                }
                Step::Release(pick) if !model.leases.is_empty() => {
                    let (id, _) = model.leases.swap_remove(pick % model.leases.len());
                    state.release(id, now);
                }
                Step::Break(which) if model.next > 0 => {
                    model.broken.borrow_mut().insert(pick(which));
                }
                Step::Doubt(which) if !model.leases.is_empty() => {
                    let (id, name) = model.leases[which % model.leases.len()];
                    state.doubt(id, now);
                    model.doubted.insert(name, now);
                }
                Step::Hear(which) => {
                    // Later than any doubt at this moment.
                    now += Duration::from_millis(1);
                    let name = pick(which);
                    model.heard.entry(name).and_modify(|heard| *heard = now);
                }
                Step::Block(which) => {
                    let name = pick(which);
                    model.blocked.entry(name).or_insert(now);
                }
                Step::Unblock(which) => {
                    let name = pick(which);
                    model.blocked.remove(&name);
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds.into()),
                Step::Expire => state.expire(now, look),
                Step::Close(key) => {
                    for name in state.close_matching(|other| *other == key) {
                        prop_assert_eq!(model.keys[&name], key);
                        prop_assert!(model.left.insert(name));
                    }
                    let closed = model.dials.iter().filter(|(_, k)| *k == key);
                    model.unwanted.extend(closed.map(|(dial, _)| *dial));
                }
                _ => {}
            }
            for name in state.take_discarded() {
                prop_assert!(model.left.insert(name), "leaves once");
                let in_use = model.leases.iter().any(|(_, leased)| *leased == name);
                prop_assert!(!in_use || model.broken.borrow().contains(&name), "a good connection in use stays");
            }
            let counts = state.counts();
            prop_assert_eq!(counts.leased, model.leases.len());
            prop_assert_eq!(counts.connections, model.keys.len() - model.left.len());
            prop_assert!(counts.keys <= 3 && counts.connections <= 6);
        }
        // When all is given back and time passes, nothing is left.
        for (dial, _) in model.dials.drain(..) {
            state.dial_failed(dial);
        }
        for (id, _) in model.leases.drain(..) {
            state.release(id, now);
        }
        state.expire(now + Duration::from_secs(300), |_| with_room(100));
        prop_assert_eq!(state.counts(), Counts::default());
    }
}
