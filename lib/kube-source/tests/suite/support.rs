//! Readers and objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use kube_source::{ApiServer, KubernetesStore, Wanted};
use object_store::{Batch, ObjectSource, SourceError, StoreChange};
use objects::{Kind, Object, ObjectKey};
use serde_json::{Value, json};

/// Long enough for any machine; a test that passes never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A store over the server at this URL, for the objects of these kinds.
pub(crate) fn store(url: &str, kinds: &[Kind]) -> KubernetesStore {
    let server = ApiServer::at(url, None, None).unwrap();
    KubernetesStore::new(server, Wanted::of(kinds.iter().copied()))
}

/// A reader that holds what it was told.
pub(crate) struct Reader {
    stream: BoxStream<'static, Result<Batch, SourceError>>,
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Object>>,
    pub(crate) revision: u64,
    pub(crate) problems: Vec<String>,
}

impl Reader {
    pub(crate) fn new(source: &dyn ObjectSource) -> Reader {
        Reader {
            stream: source.watch(),
            objects: BTreeMap::new(),
            revision: 0,
            problems: Vec::new(),
        }
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Batch {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match next.expect("a batch in time").expect("the stream goes on") {
                Ok(batch) => {
                    self.take(&batch);
                    return batch;
                }
                Err(problem) => self.problems.push(problem.to_string()),
            }
        }
    }

    /// The next failure.
    pub(crate) async fn problem(&mut self) -> String {
        while self.problems.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match next.expect("a failure in time").expect("the stream goes on") {
                Ok(batch) => self.take(&batch),
                Err(problem) => self.problems.push(problem.to_string()),
            }
        }
        self.problems.remove(0)
    }

    /// Waits until it holds exactly these objects, each by name and label `content`.
    pub(crate) async fn until(&mut self, expected: &[&str]) {
        while self.words() != expected {
            self.next().await;
        }
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let word = |object: &Arc<Object>| {
            let content = object.metadata.labels.get("content");
            format!("{}={}", object.metadata.name, content.map_or("", String::as_str))
        };
        self.objects.values().map(word).collect()
    }

    fn take(&mut self, batch: &Batch) {
        if batch.initial {
            assert_eq!(self.revision, 0, "there is one first batch");
        }
        assert!(batch.revision > self.revision, "revisions grow");
        self.revision = batch.revision;
        for change in &batch.changes {
            match change {
                StoreChange::Put(object) => drop(self.objects.insert(object.key(), object.clone())),
                StoreChange::Delete(key) => {
                    assert!(self.objects.remove(key).is_some(), "{key} was never there");
                }
            }
        }
    }
}

/// A service account, as a list has it.
pub(crate) fn account(name: &str, version: u64, content: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "demo", "uid": format!("uid-{name}"),
        "resourceVersion": version.to_string(), "labels": { "content": content } } })
}
