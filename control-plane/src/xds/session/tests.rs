//! The protocol, as tables of what goes in and what comes out.

mod on_demand;
mod plans;

use prost::Message;
use proto::discovery;

use super::*;
use crate::xds::ResourceKind::{Address, Authorization};
use crate::xds::resource::{Links, Resource};
use crate::xds::table::MAX_REMOVED;

/// A mesh that changes, and one stream that watches it.
struct Bench {
    view: View,
    history: History,
    session: Session,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench::of(View::default(), true)
    }

    /// A stream that begins now, of a client that knows of dry-run policies or does not.
    fn of(view: View, dry_run: bool) -> Bench {
        let history = History::new(Arc::new(view.clone()));
        let client = Client {
            node: "node-a".into(),
            dry_run,
            max_response: MAX_RESPONSE_BYTES,
        };
        let session = Session::new(0xabc, client, Arc::new(history.clone()));
        Bench {
            view,
            history,
            session,
            now: Instant::now(),
        }
    }

    /// A stream that asked for everything and was told of an empty mesh.
    fn synced() -> Bench {
        let mut bench = Bench::new();
        bench.wildcard(Authorization);
        bench.wildcard(Address);
        bench.settle();
        bench
    }

    fn change(&mut self, change: impl FnOnce(&mut View)) {
        self.view.revision += 1;
        self.view.generation += 1;
        change(&mut self.view);
        self.history.push(Arc::new(self.view.clone()));
        self.session.update(Arc::new(self.history.clone()));
    }

    fn request(&mut self, kind: ResourceKind, request: Request) -> Vec<Rejection> {
        self.session.request(self.now, kind, request).unwrap()
    }

    fn wildcard(&mut self, kind: ResourceKind) {
        self.request(kind, Request::default());
    }

    fn ask(&mut self, kind: ResourceKind, names: &[&str]) {
        self.request(
            kind,
            Request {
                subscribe: strings(names),
                ..Request::default()
            },
        );
    }

    fn ack(&mut self, response: &Sent) {
        assert!(
            self.request(
                response.kind,
                Request {
                    nonce: response.nonce.clone(),
                    ..Request::default()
                }
            )
            .is_empty()
        );
    }

    fn nack(&mut self, response: &Sent, error: &str) -> Vec<Rejection> {
        let error = Some(error.to_owned());
        self.request(
            response.kind,
            Request {
                nonce: response.nonce.clone(),
                error,
                ..Request::default()
            },
        )
    }

    fn sent(&mut self) -> Sent {
        match self.session.next(self.now) {
            Next::Send(response) => Sent::new(response),
            other => panic!("nothing is sent but {other:?}"),
        }
    }

    fn idle(&mut self) {
        assert_eq!(self.session.next(self.now), Next::Wait(None));
    }

    fn waits(&mut self) {
        assert!(matches!(self.session.next(self.now), Next::Wait(Some(_))));
    }

    /// Everything that is sent when each response is acknowledged at once.
    fn settle(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            match self.session.next(self.now) {
                Next::Send(response) => {
                    let response = Sent::new(response);
                    self.ack(&response);
                    all.push(response);
                }
                Next::Wait(None) => return all,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A response, its resources decoded: names with a `!` are removed ones.
struct Sent {
    kind: ResourceKind,
    nonce: String,
    names: Vec<String>,
    versions: HashMap<String, String>,
    aliases: HashMap<String, Vec<String>>,
}

impl Sent {
    fn new(response: Response) -> Sent {
        let decode = |encoded: &bytes::Bytes| discovery::Resource::decode(encoded.clone()).unwrap();
        let resources: Vec<_> = response.resources.iter().map(decode).collect();
        for resource in &resources {
            assert_eq!(
                resource.resource.as_ref().unwrap().type_url,
                response.kind.type_url()
            );
        }
        let mut names: Vec<String> = resources.iter().map(|resource| resource.name.clone()).collect();
        names.sort();
        names.extend(response.removed.iter().map(|name| format!("!{name}")));
        Sent {
            kind: response.kind,
            nonce: response.nonce,
            names,
            versions: resources
                .iter()
                .map(|resource| (resource.name.clone(), resource.version.clone()))
                .collect(),
            aliases: resources
                .into_iter()
                .map(|resource| (resource.name, resource.aliases))
                .collect(),
        }
    }

    fn brief(&self) -> (ResourceKind, Vec<&str>) {
        (self.kind, self.names.iter().map(String::as_str).collect())
    }
}

fn brief(all: &[Sent]) -> Vec<(ResourceKind, Vec<&str>)> {
    all.iter().map(Sent::brief).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn arcs(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

fn policy(name: &str, content: &str) -> Resource {
    Resource::new(Authorization, name, content.as_bytes().to_vec(), Links::default())
}

fn address(name: &str, content: &str) -> Resource {
    Resource::new(Address, name, content.as_bytes().to_vec(), Links::default())
}

fn workload(uid: &str, ip: &str, node: &str, services: &[&str]) -> Resource {
    let links = Links {
        aliases: arcs(&[ip]),
        node: Some(node.into()),
        services: arcs(services),
        ..Links::default()
    };
    Resource::new(
        Address,
        uid,
        format!("{uid} {ip} {services:?}").into_bytes(),
        links,
    )
}

/// What Istio's node proxy and ours read at most.
const READ_BY_PROXIES: usize = 200 * 1024 * 1024;
const _: () = assert!(MAX_RESPONSE_BYTES + MAX_RESPONSE_BYTES / 4 < READ_BY_PROXIES);

#[test]
fn what_is_too_long_for_a_response_is_told_by_several_in_the_same_order() {
    const COUNT: usize = 50;
    let mut bench = Bench::new();
    bench.session.client.max_response = 1000;
    bench.change(|view| {
        for index in 0..COUNT {
            view.policies.put(policy(&format!("demo/p{index:02}"), "policy"));
            view.addresses
                .put(address(&format!("a{index:02}"), &"x".repeat(100)));
        }
        // Longer than any response may be: it goes alone.
        view.addresses.put(address("b", &"x".repeat(5000)));
    });
    bench.wildcard(Authorization);
    bench.wildcard(Address);
    let mut told: Vec<(ResourceKind, Vec<String>)> = Vec::new();
    while let Next::Send(response) = bench.session.next(bench.now) {
        let length: usize = response.resources.encoded_len();
        assert!(length <= 1000 || response.resources.len() == 1, "{length}");
        let sent = Sent::new(response);
        told.push((sent.kind, sent.names.clone()));
        assert!(
            matches!(bench.session.next(bench.now), Next::Wait(Some(_))),
            "each is answered first"
        );
        bench.ack(&sent);
    }
    let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
    let addresses = kinds.iter().position(|kind| *kind == Address).unwrap();
    assert!(kinds[..addresses].iter().all(|kind| *kind == Authorization) && addresses > 1);
    assert!(kinds[addresses..].iter().all(|kind| *kind == Address) && kinds.len() - addresses > 5);
    let names = |kind| {
        let of_kind = told.iter().filter(move |(other, _)| *other == kind);
        of_kind.flat_map(|(_, names)| names.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(Authorization).len(), COUNT);
    let mut expected: Vec<_> = (0..COUNT).map(|index| format!("a{index:02}")).collect();
    expected.push("b".to_owned());
    assert_eq!(names(Address), expected);
    assert_eq!(bench.session.acknowledged(), bench.view.revision);

    // What is gone too.
    bench.change(|view| {
        for index in 0..COUNT {
            view.addresses.remove(&format!("a{index:02}"));
        }
    });
    let gone = bench.settle();
    assert!(gone.len() == 1, "names alone are short: {}", gone.len());
}

/// A proxy is ready with one response of each type, so the type that is told by one comes last; but not to a proxy that
/// may be deciding already, since a workload must not come before its policies.
#[test]
fn who_knows_nothing_is_ready_only_with_the_whole_mesh() {
    let told = |policy_length: usize, before: &[(&str, &str)]| {
        let mut bench = Bench::new();
        bench.session.client.max_response = 1000;
        bench.change(|view| {
            view.policies.put(policy("demo/p", &"p".repeat(policy_length)));
            view.policies.put(policy("demo/q", &"p".repeat(policy_length)));
            for index in 0..50 {
                view.addresses
                    .put(address(&format!("a{index:02}"), &"x".repeat(100)));
            }
        });
        let owned = |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
        let request = Request {
            initial_versions: before.iter().map(owned).collect(),
            ..Request::default()
        };
        bench.request(Address, request);
        bench.wildcard(Authorization);
        let responses = bench.settle();
        assert_eq!(bench.session.acknowledged(), bench.view.revision);
        responses.iter().map(|sent| sent.kind).collect::<Vec<_>>()
    };
    let addresses_first = told(10, &[]);
    assert!(addresses_first.len() > 5, "{addresses_first:?}");
    let (last, others) = addresses_first.split_last().unwrap();
    assert_eq!(*last, Authorization);
    assert!(others.iter().all(|kind| *kind == Address), "{others:?}");
    // It has something, or the policies are too long for one response themselves.
    for policies_first in [told(10, &[("a00", "old")]), told(900, &[])] {
        assert_eq!(policies_first.first(), Some(&Authorization));
        assert_eq!(policies_first.last(), Some(&Address));
    }
}

#[test]
fn an_empty_mesh_is_said_too() {
    let mut bench = Bench::new();
    bench.idle();
    bench.wildcard(Address);
    bench.wildcard(Authorization);
    assert_eq!(
        brief(&bench.settle()),
        [(Authorization, vec![]), (Address, vec![])]
    );
    bench.idle();
}

#[test]
fn on_first_sync_policies_are_acknowledged_before_addresses_are_sent() {
    let mut bench = Bench::new();
    bench.change(|view| {
        view.policies.put(policy("demo/strict", "1"));
        view.addresses.put(address("uid", "1"));
    });
    // The order of the requests does not matter.
    bench.wildcard(Address);
    bench.waits();
    bench.wildcard(Authorization);
    let first = bench.sent();
    assert_eq!(first.brief(), (Authorization, vec!["demo/strict"]));
    bench.waits();
    assert_eq!(bench.session.acknowledged(), 0);
    bench.ack(&first);
    let second = bench.sent();
    assert_eq!(second.brief(), (Address, vec!["uid"]));
    assert_ne!(first.nonce, second.nonce);
    bench.waits();
    assert_eq!((bench.session.sent(), bench.session.acknowledged()), (0, 0));
    bench.ack(&second);
    bench.idle();
    assert_eq!((bench.session.sent(), bench.session.acknowledged()), (1, 1));
}

#[test]
fn a_stream_that_asks_for_one_type_only_is_held_for_a_moment() {
    let mut bench = Bench::new();
    bench.wildcard(Address);
    assert_eq!(bench.session.next(bench.now), Next::Wait(Some(bench.now + HOLD)));
    bench.now += HOLD;
    assert_eq!(brief(&bench.settle()), [(Address, vec![])]);
    // The other type may still come.
    bench.wildcard(Authorization);
    assert_eq!(brief(&bench.settle()), [(Authorization, vec![])]);
}

#[test]
fn a_change_is_policies_then_addresses_then_policies_that_are_gone() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/old", "1"));
        view.policies.put(policy("demo/kept", "1"));
        view.addresses.put(address("a", "lists demo/old"));
        view.addresses.put(address("b", "1"));
    });
    bench.settle();
    bench.change(|view| {
        view.policies.put(policy("demo/new", "1"));
        view.policies.put(policy("demo/kept", "1"));
        view.policies.remove("demo/old");
        view.addresses.put(address("a", "lists demo/new"));
        view.addresses.remove("b");
    });
    let expected = [
        (Authorization, vec!["demo/new"]),
        (Address, vec!["a", "!b"]),
        (Authorization, vec!["!demo/old"]),
    ];
    let mut sent = Vec::new();
    for _ in 0..expected.len() {
        let response = bench.sent();
        // Nothing more before the answer.
        bench.waits();
        assert_eq!(bench.session.acknowledged(), 1);
        bench.ack(&response);
        sent.push(response);
    }
    assert_eq!(brief(&sent), expected);
    bench.idle();
    assert_eq!(bench.session.acknowledged(), 2);
}

#[test]
fn a_revision_that_changes_nothing_for_the_client_counts_at_once() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(address("a", "1")));
    bench.settle();
    bench.change(|_| ());
    bench.change(|view| view.addresses.put(address("a", "1")));
    bench.idle();
    assert_eq!(bench.session.acknowledged(), 3);
    // What comes and goes between two plans is said as gone, and does no harm.
    bench.change(|view| view.addresses.put(address("b", "1")));
    bench.change(|view| view.addresses.remove("b"));
    assert_eq!(brief(&bench.settle()), [(Address, vec!["!b"])]);
}

#[test]
fn a_slow_client_gets_the_latest_state_and_no_queue() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(address("a", "0")));
    let slow = bench.sent();
    let before = slow.versions["a"].clone();
    for round in 1..100 {
        bench.change(|view| {
            view.addresses.put(address("a", &round.to_string()));
            view.addresses
                .put(address(&format!("b{}", round % 2), &round.to_string()));
        });
        bench.waits();
    }
    bench.ack(&slow);
    let all = bench.settle();
    assert_eq!(brief(&all), [(Address, vec!["a", "b0", "b1"])]);
    assert_ne!(all[0].versions["a"], before);
    assert_eq!(bench.session.acknowledged(), 100);
}

#[test]
fn a_client_that_never_answers_is_sent_everything_but_counts_for_nothing() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/p", "1"));
        view.addresses.put(address("a", "1"));
    });
    assert_eq!(bench.sent().brief(), (Authorization, vec!["demo/p"]));
    assert_eq!(
        bench.session.next(bench.now),
        Next::Wait(Some(bench.now + ANSWER_DEADLINE))
    );
    bench.now += ANSWER_DEADLINE;
    let addresses = bench.sent();
    assert_eq!(addresses.brief(), (Address, vec!["a"]));
    bench.now += ANSWER_DEADLINE;
    bench.idle();
    assert_eq!((bench.session.sent(), bench.session.acknowledged()), (1, 0));
    assert_eq!(bench.session.overdue(), 2);
    // A later change of another type does not cover for it.
    bench.change(|view| view.addresses.put(address("a", "2")));
    let addresses = bench.sent();
    bench.ack(&addresses);
    bench.idle();
    assert_eq!((bench.session.sent(), bench.session.acknowledged()), (2, 0));
    // The answer to a later response of the same type does: the client took them in order.
    bench.change(|view| view.policies.put(policy("demo/p", "2")));
    let policies = bench.sent();
    bench.ack(&policies);
    bench.idle();
    assert_eq!(bench.session.acknowledged(), 3);
}

#[test]
fn a_stale_or_unknown_nonce_is_no_answer() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(address("a", "1")));
    let late = bench.sent();
    bench.now += ANSWER_DEADLINE;
    bench.idle();
    bench.change(|view| view.addresses.put(address("a", "2")));
    let current = bench.sent();
    for nonce in [late.nonce.as_str(), "nonsense", "abc-99"] {
        let error = Some("a: no".to_owned());
        let request = Request {
            nonce: nonce.to_owned(),
            error,
            ..Request::default()
        };
        assert!(bench.request(Address, request).is_empty());
        // Of the right type only.
        let request = Request {
            nonce: current.nonce.clone(),
            ..Request::default()
        };
        assert!(bench.request(Authorization, request).is_empty());
        bench.waits();
        assert_eq!(bench.session.acknowledged(), 0);
    }
    bench.ack(&current);
    bench.ack(&current);
    bench.idle();
    assert_eq!(bench.session.acknowledged(), 2);
    assert_eq!(bench.session.rejected().count(), 0);
}

#[test]
fn a_rejection_is_an_answer_that_is_remembered_until_the_resource_is_sent_anew() {
    let mut bench = Bench::synced();
    bench.change(|view| {
        view.policies.put(policy("demo/bad", "1"));
        view.policies.put(policy("demo/good", "1"));
        view.addresses.put(address("cluster//Pod/demo/web", "1"));
    });
    let response = bench.sent();
    let rejections = bench.nack(
        &response,
        "demo/bad: unknown field 99: not understood, demo/good: also no",
    );
    let said: Vec<_> = rejections
        .iter()
        .map(|rejection| (rejection.name.as_str(), rejection.reason.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("demo/bad", "unknown field 99: not understood"),
            ("demo/good", "also no")
        ]
    );
    let response = bench.sent();
    assert_eq!(response.kind, Address);
    let rejections = bench.nack(&response, "something is wrong");
    assert_eq!(rejections[0].name, "");
    assert_eq!(rejections[0].reason, "something is wrong");
    bench.idle();
    assert_eq!(bench.session.acknowledged(), 1);
    assert_eq!(bench.session.rejected().count(), 3);

    bench.change(|view| view.policies.put(policy("demo/bad", "2")));
    let response = bench.sent();
    assert_eq!(
        bench.session.rejected().count(),
        3,
        "still rejected until the answer is there"
    );
    bench.ack(&response);
    let left: Vec<_> = bench
        .session
        .rejected()
        .map(|rejection| rejection.name.as_str())
        .collect();
    assert_eq!(left, ["demo/good", ""]);
    bench.change(|view| {
        view.policies.remove("demo/good");
        view.addresses.put(address("x", "1"));
    });
    bench.settle();
    assert_eq!(bench.session.rejected().count(), 0);
}

#[test]
fn after_a_reconnect_only_the_difference_is_sent() {
    let mut bench = Bench::new();
    bench.change(|view| {
        view.policies.put(policy("demo/same", "1"));
        view.policies.put(policy("demo/changed", "2"));
        view.addresses.put(address("same", "1"));
        view.addresses.put(address("changed", "2"));
        view.addresses.put(address("new", "1"));
    });
    let version = |resource: Resource| (resource.name.to_string(), resource.version.to_string());
    let policies = [
        policy("demo/same", "1"),
        policy("demo/changed", "1"),
        policy("demo/gone", "1"),
    ];
    let addresses = [
        address("same", "1"),
        address("changed", "1"),
        address("gone", "1"),
    ];
    for (kind, known) in [(Address, addresses), (Authorization, policies)] {
        let initial_versions = known.into_iter().map(version).collect();
        bench.request(
            kind,
            Request {
                initial_versions,
                ..Request::default()
            },
        );
    }
    let expected = [
        (Authorization, vec!["demo/changed"]),
        (Address, vec!["changed", "new", "!gone"]),
        (Authorization, vec!["!demo/gone"]),
    ];
    assert_eq!(brief(&bench.settle()), expected);
    assert_eq!(bench.session.acknowledged(), 1);
}

#[test]
fn a_reconnect_that_knows_everything_is_answered_with_nothing() {
    let mut bench = Bench::new();
    bench.change(|view| view.addresses.put(address("a", "1")));
    let a = address("a", "1");
    let initial_versions = BTreeMap::from([(a.name.to_string(), a.version.to_string())]);
    bench.request(
        Address,
        Request {
            initial_versions,
            ..Request::default()
        },
    );
    bench.wildcard(Authorization);
    assert_eq!(
        brief(&bench.settle()),
        [(Authorization, vec![]), (Address, vec![])]
    );
    // A request out of the blue is a new subscription, and answered.
    bench.wildcard(Address);
    assert_eq!(brief(&bench.settle()), [(Address, vec![])]);
}

#[test]
fn a_name_that_is_asked_for_by_who_has_everything_is_sent_again() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(workload("uid", "net/10.0.0.1", "node-b", &[])));
    bench.settle();
    bench.ask(Address, &["uid", "net/10.0.0.9"]);
    assert_eq!(brief(&bench.settle()), [(Address, vec!["uid", "!net/10.0.0.9"])]);
}

#[test]
fn a_client_that_is_too_far_behind_is_made_to_reconnect() {
    let mut bench = Bench::synced();
    bench.change(|view| view.addresses.put(address("a", "1")));
    let slow = bench.sent();
    bench.change(|view| {
        for number in 0..=MAX_REMOVED {
            let name = format!("gone{number}");
            view.addresses.put(address(&name, "1"));
            view.addresses.remove(&name);
        }
    });
    bench.ack(&slow);
    assert_eq!(bench.session.next(bench.now), Next::Restart);
}
