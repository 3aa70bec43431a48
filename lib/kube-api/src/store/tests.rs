use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Change, Compacted, Key, PageRequest, Store};

fn put(store: &Store, namespace: &str, name: &str, value: u32) {
    let key = Key::new("pods", namespace, name);
    let object = json!({ "metadata": { "name": name, "namespace": namespace }, "value": value });
    store.transact(&key, |_, _| Ok(Change::Put(object))).unwrap();
}

fn remove(store: &Store, namespace: &str, name: &str) {
    let key = Key::new("pods", namespace, name);
    store.transact(&key, |_, _| Ok(Change::Remove)).unwrap();
}

fn request(at: Option<u64>) -> PageRequest<'static> {
    PageRequest {
        resource: "pods",
        namespace: None,
        at,
        after: None,
        limit: None,
    }
}

type Contents = BTreeMap<(String, String), u64>;

fn contents(store: &Store, at: Option<u64>) -> Contents {
    let page = store.page(&request(at), |_| true).unwrap();
    page.items.iter().map(|object| entry(object.value())).collect()
}

fn entry(object: &Value) -> ((String, String), u64) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    (
        (text("namespace"), text("name")),
        object["value"].as_u64().unwrap(),
    )
}

#[test]
fn pages_show_one_moment() {
    let store = Store::default();
    for name in ["a", "b", "c", "d"] {
        put(&store, "x", name, 1);
    }
    let first = store
        .page(
            &PageRequest {
                limit: Some(2),
                ..request(None)
            },
            |_| true,
        )
        .unwrap();
    assert_eq!(first.remaining, 2);
    remove(&store, "x", "c");
    put(&store, "x", "bb", 1);
    put(&store, "x", "d", 2);
    let second = store
        .page(
            &PageRequest {
                after: first.next.as_ref(),
                ..request(Some(first.revision))
            },
            |_| true,
        )
        .unwrap();
    let names: Vec<_> = second.items.iter().map(|object| entry(object.value())).collect();
    let expected = ["c", "d"].map(|name| (("x".to_owned(), name.to_owned()), 1));
    assert_eq!(names, expected);
    assert!(second.next.is_none());
}

#[test]
fn history_is_bounded() {
    let store = Store::with_history(3);
    for value in 0..5 {
        put(&store, "x", "a", value);
    }
    assert_eq!(store.events_after(2, 10).unwrap_err(), Compacted { oldest: 3 });
    assert_eq!(store.events_after(3, 10).unwrap().len(), 3);
    assert!(store.page(&request(Some(2)), |_| true).is_err());
    assert_eq!(
        contents(&store, Some(3)).values().copied().collect::<Vec<_>>(),
        [1]
    );
}

proptest! {
    /// From whatever revision one starts: the list then, and the changes since, are the list now.
    #[test]
    fn changes_replayed_on_any_list_give_the_list_now(
        steps in prop::collection::vec((0..3_usize, 0..4_usize, prop::option::of(0..100_u32)), 1..60)
    ) {
        let store = Store::default();
        let (namespaces, names) = (["a", "b", "bb"], ["x", "y", "z", "zz"]);
        for (namespace, name, value) in steps {
            match value {
                Some(value) => put(&store, namespaces[namespace], names[name], value),
                None => remove(&store, namespaces[namespace], names[name]),
            }
        }
        let now = contents(&store, None);
        for revision in 1..=store.revision() {
            let mut replayed = contents(&store, Some(revision));
            for event in store.events_after(revision, usize::MAX).unwrap() {
                let name = (event.key.namespace.clone(), event.key.name.clone());
                match &event.after {
                    Some(object) => replayed.insert(name, entry(object.value()).1),
                    None => replayed.remove(&name),
                };
            }
            prop_assert_eq!(&replayed, &now, "from revision {}", revision);
        }
    }
}
