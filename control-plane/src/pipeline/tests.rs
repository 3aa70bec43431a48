//! Batches in, views out.

mod atomic;
mod standstill;

use bytes::Bytes;
use objects::{Kind, Object};
use proto::workload::address::Type;
use proto::workload::{NetworkAddress, NetworkMode, PortList, Service, Workload};
use serde_json::json;

use super::*;
use crate::xds::table::Table;

#[test]
fn a_quiet_moment_ends_the_wait_and_a_busy_time_does_not_prolong_it() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut debounce = Debounce::default();
    assert_eq!(debounce.due(), None);
    debounce.event(start);
    assert_eq!(debounce.due(), Some(at(10)));
    debounce.event(at(9));
    assert_eq!(debounce.due(), Some(at(19)));
    for millis in 10..99 {
        debounce.event(at(millis));
    }
    assert_eq!(debounce.due(), Some(at(100)));
    debounce.clear();
    assert_eq!(debounce.due(), None);
    debounce.event(at(200));
    assert_eq!(debounce.due(), Some(at(210)));
}

fn account(name: &str, value: &str) -> Arc<Object> {
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "demo", "labels": { "value": value } },
    }));
    Arc::new(object.unwrap())
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ServiceAccount, "demo", name)
}

fn batch(revision: u64, initial: bool, changes: Vec<StoreChange>) -> Batch {
    Batch {
        revision,
        changes,
        initial,
    }
}

fn brief(work: &merge::Work) -> Vec<(&str, Option<&str>)> {
    fn value(object: &Arc<Object>) -> &str {
        &object.metadata.labels["value"]
    }
    work.changes
        .iter()
        .map(|(key, object)| (key.name.as_str(), object.as_ref().map(value)))
        .collect()
}

#[test]
fn each_object_waits_once_and_the_last_word_counts() {
    let mut merged = Merged::default();
    merged.add(batch(
        1,
        true,
        vec![
            StoreChange::Put(account("a", "1")),
            StoreChange::Put(account("b", "1")),
        ],
    ));
    merged.add(batch(
        2,
        false,
        vec![StoreChange::Put(account("a", "2")), StoreChange::Delete(key("b"))],
    ));
    let work = merged.take();
    assert_eq!(work.revision, 2);
    assert_eq!(brief(&work), [("a", Some("2")), ("b", None)]);
    assert!(merged.take().changes.is_empty());
}

#[test]
fn a_batch_with_everything_deletes_what_is_not_in_it() {
    let mut merged = Merged::default();
    merged.add(batch(
        1,
        true,
        vec![
            StoreChange::Put(account("a", "1")),
            StoreChange::Put(account("b", "1")),
        ],
    ));
    merged.take();
    let changes = merged.add(batch(5, true, vec![StoreChange::Put(account("b", "2"))]));
    assert_eq!(changes.len(), 2);
    let work = merged.take();
    assert_eq!(work.revision, 5);
    assert_eq!(brief(&work), [("a", None), ("b", Some("2"))]);
}

/// A policy that becomes another control plane's must not go on saying that this one enforces it.
#[test]
fn what_was_written_on_an_object_goes_when_it_becomes_another_revisions() {
    let policy = |revision: &str| {
        let object = Object::from_value(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "p", "namespace": "demo", "labels": { "istio.io/rev": revision } },
            "spec": { "rules": [{}] },
        }));
        Arc::new(object.unwrap())
    };
    let mesh = MeshSettings::new("istio-system", crate::mesh_settings::Flags::default(), "blue");
    let mut worker = Worker::new(compile::Settings::default(), mesh);
    // How many conditions are to be written: of blue; of green, which takes away what was written, once, and leaves alone
    // what the other control plane writes then; of blue again.
    for (revision, wanted) in [
        ("blue", &[1][..]),
        ("green", &[0]),
        ("green", &[]),
        ("blue", &[1]),
    ] {
        let object = policy(revision);
        let changes = BTreeMap::from([(object.key(), Some(object))]);
        worker = worker.compile(merge::Work {
            changes,
            revision: 1,
            ..merge::Work::default()
        });
        let conditions = std::mem::take(&mut worker.conditions);
        let counts: Vec<_> = conditions.values().map(Vec::len).collect();
        assert_eq!(counts, wanted, "{revision}");
    }
}

fn address_of(inner: Type) -> Address {
    Address { r#type: Some(inner) }
}

fn names<'a>(resources: impl Iterator<Item = &'a Arc<crate::xds::resource::Resource>>) -> Vec<&'a str> {
    let mut names: Vec<_> = resources.map(|resource| &*resource.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn addresses_are_found_by_ip_node_and_service() {
    let workload = |uid: &str, last: u8, mode: NetworkMode| {
        let mut workload = Workload {
            uid: uid.to_owned(),
            network: "net".to_owned(),
            node: "node-a".to_owned(),
            addresses: vec![Bytes::copy_from_slice(&[10, 0, 0, last])],
            services: BTreeMap::from([("demo/web".to_owned(), PortList::default())]),
            ..Workload::default()
        };
        workload.set_network_mode(mode);
        address_of(Type::Workload(workload))
    };
    let service = Service {
        addresses: vec![NetworkAddress {
            network: String::new(),
            address: Bytes::from(vec![0; 16]),
            length: None,
        }],
        ..Service::default()
    };
    let mut output = Output::default();
    output
        .addresses
        .insert("uid-1".to_owned(), workload("uid-1", 1, NetworkMode::Standard));
    output
        .addresses
        .insert("uid-2".to_owned(), workload("uid-2", 2, NetworkMode::HostNetwork));
    output
        .addresses
        .insert("demo/web".to_owned(), address_of(Type::Service(service)));
    let mut view = View::default();
    publish(&mut view, output, 3);
    assert_eq!((view.revision, view.generation), (3, 1));
    let table: &Table = &view.addresses;
    assert_eq!(names(table.by_alias("net/10.0.0.1")), ["uid-1"]);
    assert_eq!(names(table.by_alias("net/10.0.0.2")), [""; 0]);
    assert_eq!(names(table.by_alias("/::")), ["demo/web"]);
    assert_eq!(names(table.by_node("node-a")), ["uid-1", "uid-2"]);
    assert_eq!(names(table.by_service("demo/web")), ["uid-1", "uid-2"]);
    let mut output = Output::default();
    output.removed_addresses.insert("uid-1".to_owned());
    publish(&mut view, output, 4);
    assert_eq!(names(view.addresses.by_alias("net/10.0.0.1")), [""; 0]);
    assert_eq!(names(view.addresses.by_node("node-a")), ["uid-2"]);
}
