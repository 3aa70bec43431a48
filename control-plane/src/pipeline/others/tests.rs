use std::sync::Arc;

use compile::MAX_CLUSTERS;
use object_store::StoreChange;
use objects::{Kind, Object, ObjectKey};
use serde_json::json;

use super::*;
use crate::mesh_settings::Flags;

fn namespace(name: &str) -> StoreChange {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    StoreChange::Put(Arc::new(Object::from_value(object).unwrap()))
}

fn news(initial: bool, changes: Vec<StoreChange>) -> News {
    news_of("west", initial, changes)
}

fn news_of(cluster: &str, initial: bool, changes: Vec<StoreChange>) -> News {
    News::Batch {
        cluster: cluster.to_owned(),
        batch: Batch {
            revision: 1,
            changes,
            initial,
        },
    }
}

/// Which namespaces come and go (`-`), after a cluster is forgotten (`!`).
fn brief(works: &Works) -> Vec<String> {
    let of_work = |work: &Work| {
        let forgotten = work.forget.then(|| "!".to_owned());
        let changes = work.changes.iter().map(|(key, object)| match object {
            Some(_) => key.name.clone(),
            None => format!("-{}", key.name),
        });
        forgotten.into_iter().chain(changes).collect::<Vec<_>>()
    };
    works.values().flat_map(of_work).collect()
}

#[test]
fn each_object_waits_once_and_a_whole_list_implies_what_is_gone() {
    let mut waiting = Waiting::default();
    assert!(waiting.add(News::Settled));
    assert!(!waiting.add(news(true, vec![namespace("a"), namespace("b")])));
    let gone = StoreChange::Delete(ObjectKey::new(Kind::Namespace, "", "a"));
    waiting.add(news(false, vec![gone]));
    assert_eq!(waiting.count(), 2);
    assert_eq!(brief(&waiting.take()), ["-a", "b"]);
    assert_eq!((waiting.count(), waiting.take().len()), (0, 0));
    // It was begun anew.
    waiting.add(news(true, vec![namespace("c")]));
    assert_eq!(brief(&waiting.take()), ["-b", "c"]);
}

#[test]
fn a_cluster_that_went_is_forgotten_before_it_comes_again() {
    let mut waiting = Waiting::default();
    waiting.add(news(true, vec![namespace("a")]));
    let mut held = waiting.take();
    waiting.add(news(false, vec![namespace("b")]));
    append(&mut held, waiting.take());
    assert_eq!(brief(&held), ["a", "b"]);
    waiting.add(News::Gone("west".to_owned()));
    assert_eq!(waiting.count(), 1);
    waiting.add(news(true, vec![namespace("c")]));
    let works = waiting.take();
    assert_eq!(brief(&works), ["!", "c"]);
    append(&mut held, works);
    assert_eq!(brief(&held), ["!", "c"]);
}

/// Whatever the two are called: work is done in the order of names.
#[test]
fn where_no_more_are_taken_one_takes_the_place_of_another() {
    let mut clusters = Clusters::new(compile::Settings::default());
    let mut mesh = MeshSettings::new("istio-system", Flags::default(), "");
    let (mut scopes, mut waiting) = (Scopes::default(), Waiting::default());
    let names = (0..MAX_CLUSTERS).map(|number| format!("m{number}"));
    for name in names {
        waiting.add(news_of(&name, true, vec![namespace("demo")]));
    }
    scopes.compile(&mut clusters, &mut mesh, waiting.take());
    assert_eq!(clusters.report().len(), MAX_CLUSTERS);
    for (gone, comes) in [("m7", "a"), ("a", "z")] {
        waiting.add(News::Gone(gone.to_owned()));
        waiting.add(news_of(comes, true, vec![namespace("demo")]));
        scopes.compile(&mut clusters, &mut mesh, waiting.take());
        let report = clusters.report();
        assert_eq!(report.len(), MAX_CLUSTERS);
        assert!(report.contains_key(comes) && !report.contains_key(gone));
    }
}
