//! However a state was come to, it is told as if it had been there from the beginning; and what is told of capacity is what
//! a naive count of the pods says.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["near", "west", "east"];

/// One object of one cluster, in one of a few forms; the last of each is its absence.
#[derive(Clone, Debug)]
struct Step {
    cluster: usize,
    object: usize,
    form: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..3, 0usize..8, 0usize..4);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let step = |(cluster, object, form)| Step {
            cluster,
            object,
            form,
        };
        steps.into_iter().map(step).collect()
    })
}

impl Step {
    /// The object, and what is to be known of it by hand.
    fn change(&self) -> Change {
        let text = match (self.object, self.form) {
            (0, 0) => on_network("n1"),
            (0, 1) => on_network("n2"),
            (0, 2) => on_network("n3"),
            (1, 0) => web(GLOBAL),
            (1, 1) => web("{}"),
            (1, 2) => web(GLOBAL).replace("app: web", "app: none"),
            (2, 0) => edge("edge", "istio-system", ADDRESS),
            (2, 1) => edge("edge", "istio-system", ADDRESS).replace("network: n2", "network: n3"),
            (2, 2) => edge("edge", "istio-system", ADDRESS).replace("istio-east-west", "istio-remote"),
            (3, 0) => edge("aside", "istio-system", "{type: IPAddress, value: 192.0.2.7}"),
            (3, 1) => edge("aside", "demo", ADDRESS),
            (3, 2) => edge("aside", "istio-system", ADDRESS).replace("network: n2", "network: n1"),
            (n @ 4..8, 0) => pod(&format!("p{n}"), "web", true, true),
            (n @ 4..8, 1) => pod(&format!("p{n}"), &format!("other-{n}"), true, true),
            (n @ 4..8, 2) => pod(&format!("p{n}"), "web", false, true),
            _ => String::new(),
        };
        match puts(&text).pop() {
            Some(change) => change,
            None => (self.key(), None),
        }
    }

    fn key(&self) -> ObjectKey {
        match self.object {
            0 => ObjectKey::new(Kind::Namespace, "", "istio-system"),
            1 => ObjectKey::new(Kind::Service, "demo", "web"),
            2 => ObjectKey::new(Kind::Gateway, "istio-system", "edge"),
            3 if self.form == 1 => ObjectKey::new(Kind::Gateway, "demo", "aside"),
            3 => ObjectKey::new(Kind::Gateway, "istio-system", "aside"),
            n => ObjectKey::new(Kind::Pod, "demo", &format!("p{n}")),
        }
    }
}

fn take(clusters: &mut Clusters, cluster: usize, changes: impl IntoIterator<Item = Change>) -> Output {
    match cluster {
        0 => clusters.apply(changes),
        _ => clusters.apply_remote(NAMES[cluster], changes),
    }
}

/// Ready pods of others on `n2` that serve `web`, which is global there and here, where there is a way to `n2`.
fn counted(state: &BTreeMap<(usize, ObjectKey), Arc<Object>>) -> u32 {
    let get = |cluster: usize, kind, namespace: &str, name: &str| {
        state.get(&(cluster, ObjectKey::new(kind, namespace, name)))
    };
    let label = |object: Option<&Arc<Object>>, label: &str| {
        object
            .and_then(|object| object.metadata.labels.get(label).cloned())
            .unwrap_or_default()
    };
    let network = |cluster| {
        label(
            get(cluster, Kind::Namespace, "", "istio-system"),
            "topology.istio.io/network",
        )
    };
    let is_global = |cluster| label(get(cluster, Kind::Service, "demo", "web"), "istio.io/global") == "true";
    if network(0) == "n2" || !is_global(0) {
        return 0;
    }
    let selects = |cluster| {
        let service = get(cluster, Kind::Service, "demo", "web").and_then(|object| object.as_service());
        service.is_some_and(|service| service.selector["app"] == "web")
    };
    let on_it = [1, 2].into_iter().filter(|cluster| network(*cluster) == "n2");
    let pods = on_it
        .filter(|cluster| is_global(*cluster) && selects(*cluster))
        .flat_map(|cluster| {
            state.iter().filter(move |((of, key), object)| {
                *of == cluster && key.kind == Kind::Pod && object.as_pod().is_some_and(|pod| pod.is_ready())
            })
        });
    u32::try_from(pods.count()).unwrap()
}

proptest! {
    #[test]
    fn the_order_of_changes_does_not_matter(steps in steps(), forgotten in 0usize..60) {
        let mut clusters = Clusters::new(Settings::default());
        let mut told = Told::default();
        let mut state: BTreeMap<(usize, ObjectKey), Arc<Object>> = BTreeMap::new();
        for (n, step) in steps.iter().enumerate() {
            let (key, object) = step.change();
            match &object {
                Some(object) => drop(state.insert((step.cluster, key.clone()), object.clone())),
                None => drop(state.remove(&(step.cluster, key.clone()))),
            }
            told.take(take(&mut clusters, step.cluster, [(key, object)]));
            if n == forgotten {
                told.take(clusters.remove("west"));
                state.retain(|(cluster, _), _| *cluster != 1);
            }
        }
        let mut whole = Clusters::new(Settings::default());
        let mut afresh = Told::default();
        for cluster in [2, 0, 1] {
            let objects = state.iter().filter(|((of, _), _)| *of == cluster);
            let changes: Vec<Change> = objects.map(|((_, key), object)| (key.clone(), Some(object.clone()))).collect();
            if !changes.is_empty() {
                afresh.take(take(&mut whole, cluster, changes));
            }
        }
        prop_assert_eq!(&told.0, &afresh.0);
        let mut report = clusters.report();
        // One that has nothing is known all the same.
        report.retain(|name, _| state.keys().any(|(cluster, _)| NAMES[*cluster] == name));
        prop_assert_eq!(report, whole.report());
        let told_of: u32 = told
            .0
            .keys()
            .filter(|uid| uid.starts_with("n2/SplitHorizon"))
            .filter_map(|uid| told.workload(uid)?.capacity)
            .sum();
        let has_way = whole.ways.contains_key("n2");
        prop_assert_eq!(told_of, if has_way { counted(&state) } else { 0 });
    }
}
