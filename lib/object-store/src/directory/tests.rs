//! The directory, as its users see it.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use objects::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{ObjectWriter, StoreChange, WriteError};

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn directory() -> (TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path().join("objects")).unwrap();
    (folder, directory)
}

fn account(name: &str, value: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "demo", "annotations": { "example.com/value": value } },
    }))
    .unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ServiceAccount, "demo", name)
}

fn value_of(object: &Object) -> &str {
    &object.metadata.annotations["example.com/value"]
}

/// A reader that holds what it was told.
struct Reader {
    stream: BoxStream<'static, Result<Batch, SourceError>>,
    objects: HashMap<ObjectKey, Arc<Object>>,
    revision: u64,
}

impl Reader {
    fn new(directory: &Directory) -> Reader {
        Reader {
            stream: directory.watch(),
            objects: HashMap::new(),
            revision: 0,
        }
    }

    async fn next(&mut self) -> Batch {
        let batch = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let batch = batch
            .expect("a batch in time")
            .expect("the stream goes on")
            .unwrap();
        if batch.initial {
            self.objects.clear();
        }
        assert!(batch.revision >= self.revision, "revisions never go back");
        self.revision = batch.revision;
        for change in &batch.changes {
            match change {
                StoreChange::Put(object) => self.objects.insert(object.key(), object.clone()),
                StoreChange::Delete(key) => self.objects.remove(key),
            };
        }
        batch
    }

    async fn until(&mut self, revision: u64) {
        while self.revision < revision {
            self.next().await;
        }
    }
}

#[test]
fn what_is_put_is_there_with_the_metadata_of_the_store() {
    let (_folder, directory) = directory();
    let (stored, revision) = directory.put(account("a", "1")).unwrap();
    assert_eq!(revision, 1);
    assert_eq!(stored.metadata.resource_version, 1);
    assert_eq!(stored.metadata.uid.len(), 36);
    assert!(
        stored
            .metadata
            .creation_timestamp
            .as_ref()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert_eq!(directory.get(&key("a")).unwrap().as_deref(), Some(&*stored));
    // Another process sees the same.
    let other = Directory::open(directory.path()).unwrap();
    let (revision, objects) = other.list().unwrap();
    assert_eq!((revision, objects.len()), (1, 1));
    assert_eq!(objects[0].raw(), stored.raw());
}

#[test]
fn an_update_keeps_uid_and_creation_time_and_the_same_again_is_no_change() {
    let (_folder, directory) = directory();
    let (first, _) = directory.put(account("a", "1")).unwrap();
    let (second, revision) = directory.put(account("a", "2")).unwrap();
    assert_eq!(revision, 2);
    assert_eq!(second.metadata.uid, first.metadata.uid);
    assert_eq!(
        second.metadata.creation_timestamp,
        first.metadata.creation_timestamp
    );
    let (same, revision) = directory.put(account("a", "2")).unwrap();
    assert_eq!((revision, same.metadata.resource_version), (2, 2));
}

#[test]
fn a_transaction_reads_its_own_writes_and_an_error_leaves_nothing_behind() {
    let (_folder, directory) = directory();
    directory.put(account("a", "1")).unwrap();
    let result = directory.transaction(|txn| {
        txn.put(account("b", "1"))?;
        txn.delete(&key("a"))?;
        let names: Vec<_> = txn
            .list()?
            .iter()
            .map(|object| object.metadata.name.clone())
            .collect();
        assert_eq!(names, ["b"]);
        assert!(txn.get(&key("a"))?.is_none());
        Err::<(), _>(StoreError::Refused("changed my mind".to_owned()))
    });
    assert_eq!(result.unwrap_err().to_string(), "changed my mind");
    let (revision, objects) = directory.list().unwrap();
    assert_eq!(revision, 1);
    assert_eq!(
        objects.iter().map(|object| object.key()).collect::<Vec<_>>(),
        [key("a")]
    );
}

#[test]
fn made_and_deleted_in_one_transaction_is_nothing() {
    let (_folder, directory) = directory();
    let ((), revision) = directory
        .transaction(|txn| {
            txn.put(account("a", "1"))?;
            assert!(txn.delete(&key("a"))?);
            assert!(!txn.delete(&key("a"))?);
            Ok(())
        })
        .unwrap();
    assert_eq!(revision, 0);
}

#[test]
fn names_that_are_paths_are_refused() {
    let (folder, directory) = directory();
    for (namespace, name) in [
        ("demo", "../../x"),
        ("..", "x"),
        ("demo", ""),
        ("demo", ".x"),
        ("Demo", "x"),
        ("", "x"),
    ] {
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        assert!(
            matches!(directory.get(&key), Err(StoreError::BadName { .. })),
            "{key}"
        );
        assert!(
            matches!(directory.delete(&key), Err(StoreError::BadName { .. })),
            "{key}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_object_over_the_limit_is_refused() {
    let (_folder, directory) = directory();
    let (_, before) = directory.put(account("a", "1")).unwrap();
    let mut raw = account("b", "1").raw().clone();
    raw["kind"] = json!("Pod");
    raw["spec"] =
        json!({ "containers": [{ "name": "main", "image": "x", "args": ["x".repeat(MAX_OBJECT_BYTES)] }] });
    let object = Object::from_value(raw).unwrap();
    assert!(matches!(directory.put(object), Err(StoreError::TooLarge { .. })));
    assert_eq!(directory.revision().unwrap(), before);
}

#[test]
fn a_writer_killed_before_the_journal_did_nothing_and_after_it_everything() {
    let (_folder, directory) = directory();
    directory.put(account("a", "1")).unwrap();
    let layout = &directory.inner.layout;
    let text = |value: &str, version: u64| {
        let mut raw = directory.get(&key("a")).unwrap().unwrap().raw().clone();
        raw["metadata"]["annotations"]["example.com/value"] = json!(value);
        raw["metadata"]["resourceVersion"] = json!(version.to_string());
        Object::from_value(raw).unwrap().to_yaml()
    };
    // Killed while staging.
    fs::write(layout.staging().join("0"), text("lost", 2)).unwrap();
    assert_eq!(value_of(&directory.get(&key("a")).unwrap().unwrap()), "1");
    // Killed right after the journal was in place.
    fs::write(layout.staging().join("0"), text("kept", 2)).unwrap();
    let name = json!({ "kind": "serviceaccounts", "namespace": "demo", "name": "a" });
    let journal = json!({ "revision": 2, "puts": [{ "staged": "0", "object": name }], "deletes": [] });
    fs::write(layout.journal(), journal.to_string()).unwrap();
    let (revision, objects) = directory.list().unwrap();
    assert_eq!((revision, value_of(&objects[0])), (2, "kept"));
    assert!(!layout.journal().exists());
    // Killed between the last rename and the removal of the journal: done again, the same.
    fs::write(layout.journal(), journal.to_string()).unwrap();
    let (revision, objects) = Directory::open(directory.path()).unwrap().list().unwrap();
    assert_eq!((revision, value_of(&objects[0])), (2, "kept"));
}

#[tokio::test]
async fn the_first_batch_is_everything_also_when_there_is_nothing() {
    let (_folder, directory) = directory();
    let mut reader = Reader::new(&directory);
    let batch = reader.next().await;
    assert!(batch.initial && batch.changes.is_empty() && batch.revision == 0);
    directory.put(account("a", "1")).unwrap();
    let batch = reader.next().await;
    assert!(!batch.initial && batch.revision == 1);
    assert_eq!(reader.objects.len(), 1);
    let mut late = Reader::new(&directory);
    let batch = late.next().await;
    assert!(batch.initial && batch.changes.len() == 1 && batch.revision == 1);
}

#[tokio::test]
async fn reading_wakes_nobody() {
    let (_folder, directory) = directory();
    directory.put(account("a", "1")).unwrap();
    let layout = &directory.inner.layout;
    let (notify, mut watches) = notify::Notify::new(layout).unwrap();
    watches.extend(layout).unwrap();
    watches.take().unwrap();
    directory.list().unwrap();
    directory.get(&key("a")).unwrap();
    directory.put(account("a", "1")).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), notify.wait())
            .await
            .is_err()
    );
    directory.put(account("a", "2")).unwrap();
    tokio::time::timeout(PATIENCE, notify.wait())
        .await
        .unwrap()
        .unwrap();
    let dirty = watches.take().unwrap();
    assert!(!dirty.everything);
    assert_eq!(dirty.objects.into_iter().collect::<Vec<_>>(), [key("a")]);
}

#[tokio::test]
async fn deletion_by_the_store_and_from_outside_is_seen() {
    let (_folder, directory) = directory();
    directory.put(account("a", "1")).unwrap();
    directory.put(account("b", "1")).unwrap();
    let mut reader = Reader::new(&directory);
    reader.next().await;
    let (existed, revision) = directory.delete(&key("a")).unwrap();
    assert!(existed);
    reader.until(revision).await;
    assert!(!reader.objects.contains_key(&key("a")));
    // Someone removes a file by hand.
    fs::remove_file(directory.inner.layout.object(&key("b"))).unwrap();
    let batch = reader.next().await;
    assert_eq!(batch.revision, revision);
    assert!(reader.objects.is_empty());
    // And a whole folder that then comes back.
    directory.put(account("c", "1")).unwrap();
    reader.until(3).await;
    fs::remove_dir_all(directory.inner.layout.kind_dir(Kind::ServiceAccount)).unwrap();
    while !reader.objects.is_empty() {
        reader.next().await;
    }
    directory.put(account("c", "2")).unwrap();
    while reader
        .objects
        .get(&key("c"))
        .is_none_or(|object| value_of(object) != "2")
    {
        reader.next().await;
    }
}

#[tokio::test]
async fn made_again_under_the_same_name_is_another_object() {
    let (_folder, directory) = directory();
    let (first, _) = directory.put(account("a", "1")).unwrap();
    let mut reader = Reader::new(&directory);
    reader.next().await;
    directory.delete(&key("a")).unwrap();
    let (second, revision) = directory.put(account("a", "1")).unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    reader.until(revision).await;
    assert_eq!(reader.objects[&key("a")].metadata.uid, second.metadata.uid);

    let old = directory
        .patch_annotation(&key("a"), &first.metadata.uid, "example.com/x", Some("1"))
        .await;
    assert!(matches!(old, Err(WriteError::Gone { .. })));
    let gone = directory.patch_status(&key("never"), "uid", json!({})).await;
    assert!(matches!(gone, Err(WriteError::Gone { .. })));
    let written = directory
        .patch_annotation(&key("a"), &second.metadata.uid, "example.com/x", Some("1"))
        .await;
    assert_eq!(written.unwrap(), revision + 1);
    let object = directory.get(&key("a")).unwrap().unwrap();
    assert_eq!(object.metadata.annotations["example.com/x"], "1");
    let removed = directory
        .patch_annotation(&key("a"), &second.metadata.uid, "example.com/x", None)
        .await;
    assert_eq!(removed.unwrap(), revision + 2);
    let again = directory
        .patch_annotation(&key("a"), &second.metadata.uid, "example.com/x", None)
        .await;
    assert_eq!(
        again.unwrap(),
        revision + 2,
        "removing what is not there changes nothing"
    );
    assert_eq!(value_of(&directory.get(&key("a")).unwrap().unwrap()), "1");
}

#[tokio::test]
async fn status_is_merged() {
    let (_folder, directory) = directory();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": "demo" },
        "spec": { "containers": [{ "name": "main", "image": "x" }] },
        "status": { "phase": "Pending", "message": "waiting" },
    });
    let (pod, _) = directory.put(Object::from_value(pod).unwrap()).unwrap();
    let change = json!({ "phase": "Running", "message": Value::Null, "podIP": "10.1.0.5" });
    directory
        .patch_status(&pod.key(), &pod.metadata.uid, change)
        .await
        .unwrap();
    let pod = directory.get(&pod.key()).unwrap().unwrap();
    assert_eq!(
        pod.status(),
        Some(&json!({ "phase": "Running", "podIP": "10.1.0.5" }))
    );
    // What could not be read back is refused, and nothing is written.
    let nonsense = directory
        .patch_status(
            &pod.key(),
            &pod.metadata.uid,
            json!({ "podIP": "not an address" }),
        )
        .await;
    assert!(
        matches!(nonsense, Err(WriteError::Store(StoreError::Invalid { .. }))),
        "{nonsense:?}"
    );
    assert_eq!(directory.get(&pod.key()).unwrap().unwrap(), pod);
}

#[tokio::test]
async fn a_damaged_file_is_kept_out_and_its_last_good_version_stays() {
    let (_folder, directory) = directory();
    directory.put(account("a", "1")).unwrap();
    let mut reader = Reader::new(&directory);
    reader.next().await;
    let path = directory.inner.layout.object(&key("a"));
    fs::write(&path, "kind: [").unwrap();
    fs::write(
        directory.inner.layout.object(&key("new")),
        "apiVersion: v1\nkind: ServiceAccount\n",
    )
    .unwrap();
    let oversized = "#".repeat(MAX_OBJECT_BYTES + 1);
    fs::write(directory.inner.layout.object(&key("large")), oversized).unwrap();
    nix::unistd::mkfifo(
        &directory.inner.layout.object(&key("pipe")),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    // A later change arrives; the damaged ones are as they were.
    let (_, revision) = directory.put(account("b", "1")).unwrap();
    reader.until(revision).await;
    let (_, objects) = directory.list().unwrap();
    assert_eq!(
        objects.iter().map(|object| object.key()).collect::<Vec<_>>(),
        [key("a"), key("b")]
    );
    assert_eq!(value_of(&reader.objects[&key("a")]), "1");
    assert_eq!(reader.objects.len(), 2);
    // Mended, it counts again.
    let (_, revision) = directory.put(account("a", "2")).unwrap();
    reader.until(revision).await;
    assert_eq!(value_of(&reader.objects[&key("a")]), "2");
}

#[test]
fn generations_count_what_is_asked_for() {
    let (_folder, directory) = directory();
    let policy = |mode: &str, annotation: &str| {
        Object::from_value(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "a", "namespace": "demo", "annotations": { "example.com/value": annotation } },
            "spec": { "mtls": { "mode": mode } },
        }))
        .unwrap()
    };
    let generation = |object: Object| directory.put(object).unwrap().0.metadata.generation;
    assert_eq!(generation(policy("STRICT", "1")), 1);
    assert_eq!(generation(policy("STRICT", "2")), 1);
    assert_eq!(generation(policy("PERMISSIVE", "2")), 2);
    let key = ObjectKey::new(Kind::PeerAuthentication, "demo", "a");
    let stored = directory.get(&key).unwrap().unwrap();
    assert_eq!(
        generation(stored.with_status(json!({ "conditions": [] })).unwrap()),
        2
    );
    assert_eq!(generation(policy("STRICT", "2")), 3);
    // Nobody else counts.
    let chosen = policy("DISABLE", "2")
        .patched(&json!({ "metadata": { "generation": 77 } }))
        .unwrap();
    assert_eq!(generation(chosen), 4);
}

/// A policy as somebody wrote it past the store.
fn write_policy(directory: &Directory, kind: Kind, text: &str) -> ObjectKey {
    let key = ObjectKey::new(kind, "demo", "a");
    let path = directory.inner.layout.object(&key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    key
}

#[tokio::test]
async fn a_stored_policy_that_cannot_be_read_closes() {
    for kind in [Kind::AuthorizationPolicy, Kind::PeerAuthentication] {
        let (_folder, directory) = directory();
        let key = write_policy(&directory, kind, "no: {such: [thing");
        let stands_for = directory.get(&key).unwrap().unwrap();
        assert!(
            stands_for.is_placeholder() && !stands_for.unreadable().is_empty(),
            "{kind}"
        );
        // It is one object, not another one with every look.
        assert!(Arc::ptr_eq(&stands_for, &directory.get(&key).unwrap().unwrap()));
        let batch = Reader::new(&directory).next().await;
        assert_eq!(batch.changes.len(), 1, "{kind}");
        // Nothing is written over what is there.
        let refused = directory
            .patch_status(&key, "", json!({ "conditions": [] }))
            .await;
        assert!(matches!(refused, Err(WriteError::Gone { .. })), "{refused:?}");
        assert!(
            fs::read_to_string(directory.inner.layout.object(&key))
                .unwrap()
                .contains("[thing")
        );
        assert!(directory.delete(&key).unwrap().0);
    }
    // What closes nothing is kept out.
    let (_folder, directory) = directory();
    let key = write_policy(&directory, Kind::ServiceAccount, "no: {such: [thing");
    assert_eq!(directory.get(&key).unwrap(), None);
}

#[tokio::test]
async fn a_stored_policy_with_a_wrong_value_keeps_it_and_takes_a_status() {
    let (_folder, directory) = directory();
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: {name: a, namespace: demo, uid: u1}\n\
                spec: {action: DENY, rules: [{to: [{operation: {ports: [http]}}]}]}\n";
    let key = write_policy(&directory, Kind::AuthorizationPolicy, text);
    let wrong = |object: &Object| match &object.spec {
        objects::Spec::AuthorizationPolicy(policy) => {
            let values = policy.rules[0].to[0].ports.unreadable();
            values.map(str::to_owned).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let stored = directory.get(&key).unwrap().unwrap();
    assert_eq!(wrong(&stored), ["\"http\""]);
    directory
        .patch_status(&key, "u1", json!({ "conditions": [] }))
        .await
        .unwrap();
    let other = Directory::open(directory.path()).unwrap();
    let stored = other.get(&key).unwrap().unwrap();
    assert_eq!(
        (wrong(&stored), stored.metadata.resource_version),
        (vec!["\"http\"".to_owned()], 1)
    );
    assert!(stored.status().is_some());
    // Nothing else that is wrong gets in.
    let worse = directory.patch_annotation(&key, "u1", "no key", Some("x")).await;
    assert!(
        matches!(worse, Err(WriteError::Store(StoreError::Invalid { .. }))),
        "{worse:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_half_a_transaction() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 60;
    let (_folder, directory) = directory();
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Each with an own handle, as another process would have.
        let directory = Directory::open(directory.path()).unwrap();
        writers.push(tokio::task::spawn_blocking(move || {
            for round in 0..ROUNDS {
                let value = format!("{writer}-{round}");
                directory
                    .transaction(|txn| {
                        txn.put(account("left", &value))?;
                        // One namespace more now and then: folders that are watched while they fill.
                        let mut raw = account("far", &value).raw().clone();
                        raw["metadata"]["namespace"] = json!(format!("extra-{}", round / 20));
                        txn.put(Object::from_value(raw).unwrap())?;
                        if round % 7 == 3 {
                            txn.delete(&key("right")).map(drop)
                        } else {
                            txn.put(account("right", &value)).map(drop)
                        }
                    })
                    .unwrap();
            }
        }));
    }
    let lister = {
        let (directory, done) = (Directory::open(directory.path()).unwrap(), done.clone());
        tokio::task::spawn_blocking(move || {
            while !done.load(Ordering::Relaxed) {
                let (revision, objects) = directory.list().unwrap();
                let objects = objects.into_iter().map(|object| (object.key(), object)).collect();
                assert_consistent(revision, &objects);
            }
        })
    };
    let mut reader = Reader::new(&directory);
    let mut batches = 0;
    while reader.revision < WRITERS * ROUNDS {
        reader.next().await;
        batches += 1;
        assert_consistent(reader.revision, &reader.objects);
    }
    done.store(true, Ordering::Relaxed);
    lister.await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(batches > 1);
}

/// `left`, and `right` and the last `far`, come from one transaction, and that is the one of the revision.
fn assert_consistent(revision: u64, objects: &HashMap<ObjectKey, Arc<Object>>) {
    let Some(left) = objects.get(&key("left")) else {
        assert_eq!(revision, 0);
        return;
    };
    assert_eq!(left.metadata.resource_version, revision);
    if let Some(right) = objects.get(&key("right")) {
        assert_eq!(value_of(left), value_of(right), "at revision {revision}");
    }
    let far = objects.values().filter(|object| object.metadata.name == "far");
    let newest = far.max_by_key(|object| object.metadata.resource_version).unwrap();
    assert_eq!(value_of(left), value_of(newest), "at revision {revision}");
}
