//! Clients that ask by name for what they need.

use super::*;

/// Asks for nothing yet, as on-demand clients begin.
fn on_demand() -> Bench {
    let mut bench = Bench::new();
    bench.wildcard(Authorization);
    let star = || strings(&["*"]);
    bench.request(
        Address,
        Request {
            subscribe: star(),
            unsubscribe: star(),
            ..Request::default()
        },
    );
    bench
}

#[test]
fn on_demand_begins_with_the_workloads_of_the_own_node() {
    let mut bench = on_demand();
    bench.change(|view| {
        view.addresses
            .put(workload("here", "net/10.0.0.1", "node-a", &[]));
        view.addresses
            .put(workload("there", "net/10.0.1.1", "node-b", &[]));
        view.policies.put(policy("demo/p", "1"));
    });
    assert_eq!(
        brief(&bench.settle()),
        [(Authorization, vec!["demo/p"]), (Address, vec!["here"])]
    );
    bench.change(|view| {
        view.addresses
            .put(workload("here-too", "net/10.0.0.2", "node-a", &[]));
        view.addresses
            .put(workload("there-too", "net/10.0.1.2", "node-b", &[]));
        view.addresses.remove("here");
    });
    assert_eq!(brief(&bench.settle()), [(Address, vec!["here-too", "!here"])]);
}

#[test]
fn on_demand_names_are_uids_services_and_addresses() {
    let mut bench = on_demand();
    bench.change(|view| {
        view.addresses.put(workload(
            "uid-1",
            "net/10.0.1.1",
            "node-b",
            &["demo/web.demo.svc"],
        ));
        view.addresses.put(workload(
            "uid-2",
            "net/10.0.1.2",
            "node-b",
            &["demo/web.demo.svc"],
        ));
        view.addresses
            .put(workload("uid-3", "net/10.0.1.3", "node-b", &[]));
        let links = Links {
            aliases: arcs(&["net/10.2.0.1"]),
            ..Links::default()
        };
        view.addresses.put(Resource::new(
            Address,
            "demo/web.demo.svc",
            b"vip".to_vec(),
            links,
        ));
    });
    assert_eq!(
        brief(&bench.settle()),
        [(Authorization, vec![]), (Address, vec![])]
    );

    bench.ask(Address, &["uid-3"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-3"])]);
    // By address: under its own name with its aliases, and under the name that was asked for.
    bench.ask(Address, &["net/10.0.1.1"]);
    let all = bench.settle();
    assert_eq!(brief(&all), [(Address, vec!["net/10.0.1.1", "uid-1"])]);
    assert_eq!(all[0].aliases["uid-1"], ["net/10.0.1.1"]);
    // A service brings its workloads; what the client has is not sent again.
    bench.ask(Address, &["net/10.2.0.1"]);
    assert_eq!(
        brief(&bench.settle()),
        [(Address, vec!["demo/web.demo.svc", "net/10.2.0.1", "uid-2"])]
    );
    // Unknown: said once, and said when it comes to be.
    bench.ask(Address, &["net/10.9.9.9"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["!net/10.9.9.9"])]);
    bench.change(|view| {
        view.addresses
            .put(workload("elsewhere", "net/10.0.1.9", "node-b", &[]))
    });
    bench.idle();
    bench.change(|view| {
        view.addresses
            .put(workload("uid-9", "net/10.9.9.9", "node-b", &[]))
    });
    assert_eq!(brief(&bench.settle()), [(Address, vec!["net/10.9.9.9", "uid-9"])]);
    // Asked for once more it is answered once more.
    bench.ask(Address, &["uid-9", "nobody"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-9", "!nobody"])]);
    bench.ask(Address, &["nobody"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["!nobody"])]);
}

#[test]
fn on_demand_resources_are_followed_once_they_were_sent() {
    let mut bench = on_demand();
    let service = || {
        let links = Links {
            aliases: arcs(&["net/10.2.0.1"]),
            ..Links::default()
        };
        Resource::new(Address, "demo/web", b"vip".to_vec(), links)
    };
    bench.change(|view| view.addresses.put(service()));
    bench.ask(Address, &["net/10.2.0.1"]);
    assert_eq!(
        brief(&bench.settle())[1],
        (Address, vec!["demo/web", "net/10.2.0.1"])
    );
    // A new member of a service that was asked for.
    bench.change(|view| {
        view.addresses
            .put(workload("uid-1", "net/10.0.1.1", "node-b", &["demo/web"]))
    });
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-1"])]);
    // It leaves the service: still followed.
    bench.change(|view| {
        view.addresses
            .put(workload("uid-1", "net/10.0.1.1", "node-b", &[]))
    });
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-1"])]);
    bench.change(|view| view.addresses.remove("uid-1"));
    assert_eq!(brief(&bench.settle()), [(Address, vec!["!uid-1"])]);
    bench.change(|view| view.addresses.remove("demo/web"));
    assert_eq!(
        brief(&bench.settle()),
        [(Address, vec!["!demo/web", "!net/10.2.0.1"])]
    );
    bench.change(|view| view.addresses.put(service()));
    assert_eq!(
        brief(&bench.settle()),
        [(Address, vec!["demo/web", "net/10.2.0.1"])]
    );
    // No longer wanted, and not sent by its own name: gone from the books.
    let unsubscribe = strings(&["net/10.2.0.1", "demo/web"]);
    bench.request(
        Address,
        Request {
            unsubscribe,
            nonce: "any".to_owned(),
            ..Request::default()
        },
    );
    bench.change(|view| view.addresses.remove("demo/web"));
    bench.idle();
}

#[test]
fn on_demand_reconnect_wants_what_it_has() {
    let mut bench = Bench::new();
    let here = || workload("uid-1", "net/10.0.1.1", "node-b", &[]);
    bench.change(|view| {
        view.addresses.put(here());
        view.addresses
            .put(workload("uid-2", "net/10.0.1.2", "node-b", &[]));
    });
    bench.wildcard(Authorization);
    let same = here().version.to_string();
    let known = [
        ("uid-1", same.as_str()),
        ("uid-2", "old"),
        ("uid-3", "old"),
        ("net/10.7.7.7", ""),
    ];
    let initial_versions = known
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into();
    let star = || strings(&["*"]);
    let request = Request {
        subscribe: star(),
        unsubscribe: star(),
        initial_versions,
        ..Request::default()
    };
    bench.request(Address, request);
    assert_eq!(
        brief(&bench.settle())[1],
        (Address, vec!["uid-2", "!net/10.7.7.7", "!uid-3"])
    );
}

#[test]
fn names_are_limited() {
    let mut bench = on_demand();
    bench.settle();
    let subscribe = (0..=MAX_NAMES).map(|number| format!("net/{number}")).collect();
    let result = bench.session.request(
        bench.now,
        Address,
        Request {
            subscribe,
            ..Request::default()
        },
    );
    assert_eq!(result, Err(RequestError::TooManyNames));
}

/// The workloads of a service come without being asked for, so a proxy may have more than it may ask for.
#[test]
fn a_proxy_comes_back_with_more_than_it_may_ask_for() {
    let mut bench = Bench::new();
    let service = || Resource::new(Address, "demo/web", b"vip".to_vec(), Links::default());
    let member = |number: usize| {
        let address = format!("net/10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255);
        workload(&format!("uid-{number}"), &address, "node-b", &["demo/web"])
    };
    bench.change(|view| {
        view.addresses.put(service());
        (0..=MAX_NAMES).for_each(|number| view.addresses.put(member(number)));
    });
    let mut initial_versions: BTreeMap<_, _> = (0..=MAX_NAMES)
        .map(|number| (format!("uid-{number}"), member(number).version.to_string()))
        .collect();
    initial_versions.insert("demo/web".to_owned(), service().version.to_string());
    bench.wildcard(Authorization);
    let come_back = |subscribe: &[&str]| Request {
        subscribe: strings(subscribe),
        unsubscribe: strings(&["*"]),
        initial_versions: initial_versions.clone(),
        ..Request::default()
    };
    bench.request(Address, come_back(&["*", "demo/web"]));
    assert_eq!(
        brief(&bench.settle()),
        [(Authorization, vec![]), (Address, vec![])],
        "it has everything"
    );
    // What it has is followed, and may be given up.
    bench.change(|view| {
        view.addresses.remove("uid-7");
        view.addresses
            .put(workload("uid-new", "net/10.9.9.9", "node-b", &["demo/web"]));
    });
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-new", "!uid-7"])]);
    let given_up = Request {
        unsubscribe: strings(&["uid-8"]),
        nonce: "any".to_owned(),
        ..Request::default()
    };
    bench.request(Address, given_up);
    bench.request(
        Address,
        Request {
            unsubscribe: strings(&["demo/web"]),
            nonce: "any".to_owned(),
            ..Request::default()
        },
    );
    bench.change(|view| view.addresses.remove("uid-8"));
    bench.idle();
    // Without a name asked for beside it, as Istio's node proxy comes back, a service that it has brings its workloads.
    let mut other = Bench::of(bench.view.clone(), true);
    other.wildcard(Authorization);
    other.request(Address, come_back(&["*"]));
    assert_eq!(
        brief(&other.settle())[1],
        (Address, vec!["uid-new", "!uid-7", "!uid-8"])
    );
    other.change(|view| view.addresses.put(member(MAX_NAMES + 1)));
    let last = format!("uid-{}", MAX_NAMES + 1);
    assert_eq!(brief(&other.settle()), [(Address, vec![&*last])]);
    // What it asks for has its bound all the same.
    let subscribe = (0..=MAX_NAMES).map(|number| format!("net/{number}")).collect();
    let request = Request {
        subscribe,
        ..Request::default()
    };
    let result = other.session.request(other.now, Address, request);
    assert_eq!(result, Err(RequestError::TooManyNames));
}

#[test]
fn from_some_to_everything_and_back() {
    let mut bench = on_demand();
    bench.change(|view| {
        view.addresses
            .put(workload("uid-1", "net/10.0.1.1", "node-b", &[]));
        view.addresses
            .put(workload("uid-2", "net/10.0.1.2", "node-b", &[]));
    });
    bench.ask(Address, &["uid-1"]);
    assert_eq!(brief(&bench.settle())[1], (Address, vec!["uid-1"]));
    bench.ask(Address, &["*"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid-2"])]);
    bench.request(
        Address,
        Request {
            unsubscribe: strings(&["*"]),
            ..Request::default()
        },
    );
    bench.settle();
    bench.change(|view| {
        view.addresses
            .put(workload("uid-3", "net/10.0.1.3", "node-b", &[]))
    });
    bench.idle();
}
