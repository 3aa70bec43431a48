//! In which order changes of policies and of who lists them are told, to whom, and after which absence.

use super::*;

fn wide(name: &str, content: &str) -> Resource {
    let links = Links {
        is_wide: true,
        ..Links::default()
    };
    Resource::new(Authorization, name, content.as_bytes().to_vec(), links)
}

fn dry_run(name: &str, content: &str) -> Resource {
    let links = Links {
        is_dry_run: true,
        ..Links::default()
    };
    Resource::new(Authorization, name, content.as_bytes().to_vec(), links)
}

fn lists(uid: &str, policies: &[&str]) -> Resource {
    let links = Links {
        listed: arcs(policies),
        ..Links::default()
    };
    Resource::new(Address, uid, format!("{uid} {policies:?}").into_bytes(), links)
}

#[test]
fn a_selector_that_moves_is_left_before_and_joined_after_the_policy_changes() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "1"));
        view.addresses.put(lists("leaves", &["demo/p"]));
        view.addresses.put(lists("stays", &["demo/p"]));
        view.addresses.put(lists("joins", &[]));
    });
    bench.settle();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "2"));
        view.addresses.put(lists("leaves", &[]));
        view.addresses.put(lists("joins", &["demo/p"]));
    });
    let expected = [
        (Address, vec!["leaves"]),
        (Authorization, vec!["demo/p"]),
        (Address, vec!["joins"]),
    ];
    assert_eq!(brief(&bench.settle()), expected);
}

#[test]
fn a_scope_that_narrows_follows_who_lists_it_and_one_that_widens_goes_first() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(wide("demo/p", "all"));
        view.addresses.put(lists("a", &[]));
    });
    bench.settle();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "some"));
        view.addresses.put(lists("a", &["demo/p"]));
    });
    let narrows = [(Address, vec!["a"]), (Authorization, vec!["demo/p"])];
    assert_eq!(brief(&bench.settle()), narrows);
    bench.change(|view| {
        view.policies.put(wide("demo/p", "all"));
        view.addresses.put(lists("a", &[]));
    });
    let widens = [(Authorization, vec!["demo/p"]), (Address, vec!["a"])];
    assert_eq!(brief(&bench.settle()), widens);
}

#[test]
fn what_a_workload_that_must_go_first_lists_is_there_before_it() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "1"));
        view.addresses.put(lists("a", &["demo/p"]));
        view.addresses.put(lists("b", &[]));
    });
    bench.settle();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "2"));
        view.policies.put(policy("demo/new", "1"));
        view.policies.put(wide("demo/wide", "1"));
        view.addresses.put(lists("a", &["demo/new"]));
        view.addresses.put(lists("b", &["demo/new"]));
    });
    let expected = [
        (Authorization, vec!["demo/new"]),
        (Address, vec!["a"]),
        (Authorization, vec!["demo/p", "demo/wide"]),
        (Address, vec!["b"]),
    ];
    assert_eq!(brief(&bench.settle()), expected);
}

#[test]
fn a_slow_client_is_led_through_the_changes_of_policies_one_by_one() {
    let mut bench = Bench::synced();
    bench.change(|view| view.policies.put(policy("demo/p", "0")));
    let slow = bench.sent();
    for round in 1..4 {
        bench.change(|view| {
            view.policies.put(policy("demo/p", &round.to_string()));
            view.addresses.put(lists("a", &["demo/p"]));
        });
        bench.change(|view| view.addresses.put(address("b", &round.to_string())));
        bench.change(|view| view.addresses.put(address("c", &round.to_string())));
    }
    bench.ack(&slow);
    let (policies, addresses) = ((Authorization, vec!["demo/p"]), (Address, vec!["b", "c"]));
    let expected = [
        policies.clone(),
        (Address, vec!["a"]),
        addresses.clone(),
        policies.clone(),
        addresses.clone(),
        policies,
        addresses,
    ];
    assert_eq!(brief(&bench.settle()), expected);
    assert_eq!(bench.session.acknowledged(), 10);
}

#[test]
fn a_client_that_is_further_behind_than_is_remembered_is_told_all_at_once() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(address("a", "1")));
    let slow = bench.sent();
    for round in 0..=crate::xds::history::MAX_VIEWS {
        bench.change(|view| view.policies.put(policy("demo/p", &round.to_string())));
    }
    bench.ack(&slow);
    assert_eq!(brief(&bench.settle()), [(Authorization, vec!["demo/p"])]);
    assert_eq!(bench.session.acknowledged(), bench.view.revision);
}

/// A stream of a client that has these.
fn returns(bench: &Bench, had: &[Resource], knows: bool) -> Bench {
    let mut again = Bench::of(bench.view.clone(), knows);
    again.history = bench.history.clone();
    again.session.update(Arc::new(again.history.clone()));
    for kind in ResourceKind::ALL {
        // Policies have a namespace in their names here, workloads none.
        let of_kind = had
            .iter()
            .filter(|resource| resource.name.contains('/') == (kind == Authorization));
        let initial_versions = of_kind
            .map(|resource| (resource.name.to_string(), resource.version.to_string()))
            .collect();
        let request = Request {
            initial_versions,
            ..Request::default()
        };
        again.request(kind, request);
    }
    again
}

#[test]
fn who_comes_back_with_a_state_that_is_remembered_is_led_on_from_there() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "1"));
        view.addresses.put(lists("leaves", &["demo/p"]));
    });
    bench.change(|view| {
        view.policies.put(policy("demo/p", "2"));
        view.addresses.put(lists("leaves", &[]));
    });
    bench.change(|view| view.policies.put(policy("demo/q", "1")));
    let had = [policy("demo/p", "1"), lists("leaves", &["demo/p"])];
    let mut again = returns(&bench, &had, true);
    let expected = [
        (Address, vec!["leaves"]),
        (Authorization, vec!["demo/p"]),
        (Authorization, vec!["demo/q"]),
    ];
    assert_eq!(brief(&again.settle()), expected);
    assert_eq!(again.session.acknowledged(), 3);
    // Another state, and nothing is known of what it says.
    let had = [policy("demo/p", "0"), lists("leaves", &["demo/p"])];
    let mut again = returns(&bench, &had, true);
    let expected = [
        (Authorization, vec!["demo/p", "demo/q"]),
        (Address, vec!["leaves"]),
    ];
    assert_eq!(brief(&again.settle()), expected);
}

#[test]
fn dry_run_policies_are_for_those_that_know_what_they_are() {
    let bench = |knows| {
        let mut bench = Bench::of(View::default(), knows);
        bench.change(|view| {
            view.policies.put(dry_run("demo/p", "1"));
            view.policies.put(policy("demo/q", "1"));
        });
        bench.wildcard(Authorization);
        bench.wildcard(Address);
        bench
    };
    let (mut knows, mut older) = (bench(true), bench(false));
    let both = vec!["demo/p", "demo/q"];
    assert_eq!(knows.settle()[0].brief(), (Authorization, both));
    assert_eq!(older.settle()[0].brief(), (Authorization, vec!["demo/q"]));
    for bench in [&mut knows, &mut older] {
        bench.change(|view| view.policies.put(dry_run("demo/p", "2")));
    }
    assert_eq!(brief(&knows.settle()), [(Authorization, vec!["demo/p"])]);
    older.idle();
    // Asked for by its name it is not there either.
    older.ask(Authorization, &["demo/p"]);
    assert_eq!(brief(&older.settle()), [(Authorization, vec!["!demo/p"])]);
    // From now on it is enforced.
    for bench in [&mut knows, &mut older] {
        bench.change(|view| view.policies.put(policy("demo/p", "3")));
        assert_eq!(brief(&bench.settle()), [(Authorization, vec!["demo/p"])]);
        bench.change(|view| view.policies.put(dry_run("demo/p", "4")));
    }
    assert_eq!(brief(&knows.settle()), [(Authorization, vec!["demo/p"])]);
    assert_eq!(brief(&older.settle()), [(Authorization, vec!["!demo/p"])]);
    let acknowledged = |bench: &Bench| bench.session.acknowledged() == bench.view.revision;
    assert!(acknowledged(&knows) && acknowledged(&older));
}

#[test]
fn who_does_not_know_dry_run_is_led_on_from_what_it_has() {
    let mut bench = Bench::of(View::default(), false);
    bench.change(|view| {
        view.policies.put(dry_run("demo/p", "1"));
        view.policies.put(policy("demo/q", "1"));
    });
    bench.change(|view| view.policies.put(policy("demo/p", "2")));
    bench.change(|view| view.policies.put(policy("demo/q", "2")));
    let mut again = returns(&bench, &[policy("demo/q", "1")], false);
    let expected = [
        (Authorization, vec!["demo/p"]),
        (Address, vec![]),
        (Authorization, vec!["demo/q"]),
    ];
    assert_eq!(brief(&again.settle()), expected);
}
