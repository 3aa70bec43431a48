//! Whatever users do to policies and pods: after every response, every workload of every proxy is judged by the whole
//! old or the whole new set of one change, also where the proxy is slow, or comes back after it was away. The proxies
//! are those of other makers: they apply each response at once, skip listed names that they do not know, and enforce
//! whatever policy they are told of.

mod proxy;

use proptest::prelude::*;

use self::proxy::{Judged, Proxy};
use super::*;
use crate::mesh_settings::{Flags, MeshSettings};

const MODES: [&str; 4] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];
const SELECTORS: [&str; 3] = ["{}", "{app: a}", "{app: b}"];
const NAMESPACES: [&str; 3] = ["demo", "other", "istio-system"];
const RULES: [&str; 5] = [
    "[]",
    "[{}]",
    "[{from: [{source: {namespaces: [demo]}}]}]",
    "[{to: [{operation: {ports: [\"80\"]}}]}]",
    "[{from: [{source: {namespaces: [other]}}], to: [{operation: {ports: [\"81\"]}}]}]",
];

/// An object of a few names, so that most changes are of something that is there.
fn object() -> impl Strategy<Value = String> {
    let one_of = |all: &'static [&'static str]| prop::sample::select(all);
    let namespace = move || one_of(&NAMESPACES);
    let pod = (namespace(), 1u8..4, one_of(&SELECTORS)).prop_map(|(namespace, number, labels)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: pod-{number}, labels: {labels}}}\n\
             spec: {{nodeName: node-a, containers: [{{name: a}}]}}\nstatus: {{phase: Running, podIP: 10.0.0.{number}}}\n"
        )
    });
    let head = |kind: &str, namespace: &str, name: &str, rest: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: {namespace}, name: {name}{rest}}}\n"
        )
    };
    let name = move || one_of(&["p", "q"]);
    let authorization = (
        namespace(),
        name(),
        one_of(&SELECTORS),
        any::<bool>(),
        one_of(&RULES),
        0u8..5,
    )
        .prop_map(move |(namespace, name, selector, deny, rules, form)| {
            // A DENY without rules is refused.
            let action = if deny && rules != "[]" { "DENY" } else { "ALLOW" };
            let dry = if form == 0 {
                ", annotations: {istio.io/dry-run: \"true\"}"
            } else {
                ""
            };
            head("AuthorizationPolicy", namespace, name, dry)
                + &format!(
                    "spec: {{selector: {{matchLabels: {selector}}}, action: {action}, rules: {rules}}}\n"
                )
        });
    let mode = move || one_of(&MODES);
    let peer = (namespace(), name(), one_of(&SELECTORS), mode(), mode(), 1u8..3).prop_map(
        move |(namespace, name, selector, mode, port, second)| {
            let ports = if selector == "{}" {
                String::new()
            } else {
                format!(", portLevelMtls: {{80: {{mode: {port}}}}}")
            };
            let time = format!(", creationTimestamp: \"2026-08-01T00:00:0{second}Z\"");
            head("PeerAuthentication", namespace, name, &time)
                + &format!("spec: {{selector: {{matchLabels: {selector}}}, mtls: {{mode: {mode}}}{ports}}}\n")
        },
    );
    prop_oneof![2 => pod, 3 => peer, 4 => authorization]
}

/// What happens: objects change together (put, or removed), and the proxies come this far with it.
#[derive(Clone, Debug)]
struct Round {
    objects: Vec<(String, bool)>,
    /// How many responses the slow proxy takes.
    taken: usize,
    /// The proxy that is sometimes away loses its stream.
    lost: bool,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let objects = prop::collection::vec((object(), prop::bool::weighted(0.75)), 1..4);
    let round =
        (objects, 0usize..4, any::<bool>()).prop_map(|(objects, taken, lost)| Round { objects, taken, lost });
    prop::collection::vec(round, 1..24)
}

fn changes(round: &Round) -> BTreeMap<ObjectKey, Option<Arc<Object>>> {
    let mut changes = BTreeMap::new();
    for (text, put) in &round.objects {
        let objects = objects::parse("test.yaml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        for object in objects {
            changes.insert(object.key(), Some(Arc::new(object)).filter(|_| *put));
        }
    }
    changes
}

fn worker() -> Worker {
    let mesh = MeshSettings::new("istio-system", Flags::default(), "");
    let worker = Worker::new(compile::Settings::default(), mesh);
    worker.compile(merge::Work::default())
}

fn history(worker: &Worker) -> Arc<History> {
    Arc::new(worker.history.clone().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The seed of a failure is printed with it.
    #[test]
    fn every_workload_is_judged_by_the_old_or_the_new_set(rounds in rounds()) {
        let mut worker = worker();
        let start = history(&worker);
        let mut prompt = [false, true].map(|dry_run| Proxy::connect(&start, dry_run));
        let mut slow = [false, true].map(|dry_run| Proxy::connect(&start, dry_run));
        let mut away = [false, true].map(|dry_run| Proxy::connect(&start, dry_run));
        for (number, round) in rounds.iter().enumerate() {
            let work = merge::Work { changes: changes(round), revision: number as u64 + 1, ..merge::Work::default() };
            worker = worker.compile(work);
            let now = history(&worker);
            for proxy in prompt.iter_mut().chain(&mut slow) {
                proxy.told(&now);
            }
            for proxy in &mut prompt {
                while proxy.step(Judged::Always)? {}
                prop_assert!(proxy.has(now.latest()));
                prop_assert_eq!(proxy.acknowledged(), number as u64 + 1);
            }
            for proxy in &mut slow {
                for _ in 0..round.taken {
                    proxy.step(Judged::Always)?;
                }
            }
            for proxy in &mut away {
                if !round.lost {
                    proxy.reconnect(&now);
                    while proxy.step(Judged::Always)? {}
                    prop_assert!(proxy.has(now.latest()));
                }
            }
        }
        let now = history(&worker);
        for proxy in &mut slow {
            while proxy.step(Judged::Always)? {}
            prop_assert!(proxy.has(now.latest()));
            prop_assert_eq!(proxy.acknowledged(), rounds.len() as u64);
        }
    }

    /// Who is too far behind is told everything at once: whole sets for workloads that list the same as before.
    #[test]
    fn who_is_told_all_at_once_keeps_whole_sets_where_listings_stay(rounds in rounds()) {
        let mut worker = worker();
        let mut proxies = [false, true].map(|dry_run| Proxy::connect(&history(&worker), dry_run));
        for (number, round) in rounds.iter().enumerate() {
            worker = worker.compile(merge::Work { changes: changes(round), revision: number as u64, ..merge::Work::default() });
            if round.lost {
                continue;
            }
            // Nothing is remembered of what came before.
            let now = Arc::new(History::new(history(&worker).latest().clone()));
            for proxy in &mut proxies {
                proxy.told(&now);
                while proxy.step(Judged::IfListsTheSame)? {}
                prop_assert!(proxy.has(now.latest()));
            }
        }
    }

    /// A stream may also end in the middle of a change, and older proxies do not say which versions they have. Then
    /// they arrive where they should, though not by whole sets on the way.
    #[test]
    fn whoever_comes_back_arrives(rounds in rounds(), versions in any::<bool>()) {
        let mut worker = worker();
        let mut proxy = Proxy::connect(&history(&worker), false);
        for (number, round) in rounds.iter().enumerate() {
            worker = worker.compile(merge::Work { changes: changes(round), revision: number as u64, ..merge::Work::default() });
            let now = history(&worker);
            proxy.told(&now);
            for _ in 0..round.taken {
                proxy.unchecked_step();
            }
            if round.lost {
                if !versions {
                    proxy.forget_versions();
                }
                proxy.reconnect(&now);
            }
        }
        while proxy.unchecked_step() {}
        prop_assert!(proxy.has(history(&worker).latest()));
    }
}
