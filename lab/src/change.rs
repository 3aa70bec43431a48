//! Changing the objects of a running lab: apply, delete, label. Each is checked whole, written as one change, and
//! waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::{Directory, StoreError, Txn};
use objects::{Kind, Object, ObjectKey};
use tokio::time::Instant;

use crate::control;
use crate::controllers::is_node_proxy;
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::manifests::{Manifests, Place, check, warnings};
use crate::settle::{self, Scope};

const LOOK: Duration = Duration::from_millis(25);

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub object: ObjectKey,
    /// `created`, `configured`, `unchanged`, `deleted` or `labeled`.
    pub what: &'static str,
}

/// Creates or updates objects, and waits until that is in force and the pods it made are ready. `written` is told what
/// was written before the wait begins.
pub async fn apply(
    layout: &Layout,
    manifests: &Manifests,
    timeout: Duration,
    written: impl FnOnce(&[Change]),
) -> Result<(), LabError> {
    let deadline = Instant::now() + timeout;
    let status = control::status(layout).await?;
    let nodes: Vec<String> = status.nodes.iter().map(|node| node.name.clone()).collect();
    let ztctl = std::env::current_exe().map_err(LabError::system("finding this program"))?;
    let store = open(layout).await?;
    let (_, present) = settle::list(&store).await?;
    check(
        manifests,
        &Place {
            present: &present,
            nodes: &nodes,
            ztctl: &ztctl,
        },
    )?;
    wait_for_leaving(&store, manifests, deadline).await?;
    let objects = manifests.objects.clone();
    let changes = transact(&store, move |txn| {
        let mut changes = Vec::new();
        for object in objects {
            let (object, what) = match txn.get(&object.key())? {
                Some(old) => {
                    let merged = object.merged_over(&old);
                    let same = merged.raw() == old.raw();
                    (merged, if same { "unchanged" } else { "configured" })
                }
                None => (object, "created"),
            };
            let key = object.key();
            txn.put(object)?;
            changes.push(Change { object: key, what });
        }
        Ok(changes)
    })
    .await?;
    written(&changes);
    let ready: Vec<ObjectKey> = changes.into_iter().map(|change| change.object).collect();
    settle::wait(layout, &store, &Scope::of(ready, []), deadline).await
}

/// Deletes objects and waits until they are gone and forgotten. Nothing is deleted when one of them does not exist.
pub async fn delete(
    layout: &Layout,
    keys: &[ObjectKey],
    timeout: Duration,
    written: impl FnOnce(&[Change]),
) -> Result<(), LabError> {
    let deadline = Instant::now() + timeout;
    control::status(layout).await?;
    let store = open(layout).await?;
    let wanted = keys.to_vec();
    let changes = transact(&store, move |txn| {
        let mut changes = Vec::new();
        for key in wanted {
            let object = txn
                .get(&key)?
                .ok_or_else(|| StoreError::Refused(format!("{key} does not exist")))?;
            if belongs_to_lab(&object) {
                return Err(StoreError::Refused(format!(
                    "{key} belongs to the lab itself and stays"
                )));
            }
            match key.kind {
                // These are told to end; the lab removes them when they have.
                Kind::Pod | Kind::Namespace => {
                    if object.metadata.deletion_timestamp.is_none() {
                        txn.put(object.with_deletion_timestamp(SystemTime::now()))?;
                    }
                }
                _ => drop(txn.delete(&key)?),
            }
            changes.push(Change {
                object: key,
                what: "deleted",
            });
        }
        Ok(changes)
    })
    .await?;
    written(&changes);
    // The pods of a deleted Deployment go with it.
    let (_, objects) = settle::list(&store).await?;
    let mut gone: Vec<ObjectKey> = keys.to_vec();
    gone.extend(orphans(&objects, keys));
    settle::wait(layout, &store, &Scope::of([], gone), deadline).await
}

/// Sets or removes labels of an object, and waits until that is in force.
pub async fn label(
    layout: &Layout,
    key: &ObjectKey,
    labels: &BTreeMap<String, Option<String>>,
    timeout: Duration,
    written: impl FnOnce(&[Change], Vec<String>),
) -> Result<(), LabError> {
    let deadline = Instant::now() + timeout;
    control::status(layout).await?;
    let store = open(layout).await?;
    let (wanted, changes) = (key.clone(), labels.clone());
    let labelled = transact(&store, move |txn| {
        let object = txn
            .get(&wanted)?
            .ok_or_else(|| StoreError::Refused(format!("{wanted} does not exist")))?;
        let labelled = object
            .with_labels(&changes)
            .map_err(|errors| StoreError::Refused(errors.to_string()))?;
        txn.put(labelled)
    })
    .await?;
    written(
        &[Change {
            object: key.clone(),
            what: "labeled",
        }],
        warnings(&labelled),
    );
    settle::wait(layout, &store, &Scope::default(), deadline).await
}

/// Every object of a lab.
pub async fn objects(layout: &Layout) -> Result<Vec<Arc<Object>>, LabError> {
    if !layout.objects().exists() {
        return Err(LabError::NotUp(layout.name().to_owned()));
    }
    let store = open(layout).await?;
    let (_, objects) = settle::list(&store).await?;
    Ok(objects)
}

/// The objects of a kind, or one of them.
pub async fn find(
    layout: &Layout,
    kind: Kind,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<Arc<Object>>, LabError> {
    let found: Vec<Arc<Object>> = objects(layout)
        .await?
        .into_iter()
        .filter(|object| {
            object.kind() == kind
                && (!kind.is_namespaced()
                    || namespace.is_none_or(|namespace| object.metadata.namespace == namespace))
                && name.is_none_or(|name| object.metadata.name == name)
        })
        .collect();
    match name {
        Some(name) if found.is_empty() => Err(LabError::Failed(format!("{kind} {name} does not exist"))),
        _ => Ok(found),
    }
}

/// Whether this is one of the objects that a lab cannot be without.
pub(crate) fn belongs_to_lab(object: &Object) -> bool {
    let key = object.key();
    key.kind == Kind::Node
        || is_node_proxy(object)
        || (key.kind == Kind::Namespace && LASTING.contains(&key.name.as_str()))
}

/// Namespaces that every lab has.
const LASTING: [&str; 3] = ["default", "kube-system", "istio-system"];

/// Pods that were made by what is being deleted, and pods and other things in namespaces that are.
fn orphans(objects: &[Arc<Object>], keys: &[ObjectKey]) -> Vec<ObjectKey> {
    let deployments: BTreeSet<(&str, &str)> = keys
        .iter()
        .filter(|key| key.kind == Kind::Deployment)
        .map(|key| (key.namespace.as_str(), key.name.as_str()))
        .collect();
    objects
        .iter()
        .filter(|object| {
            object.metadata.owner.as_ref().is_some_and(|owner| {
                let deployment = owner.name.rsplit_once('-').map_or("", |(name, _)| name);
                owner.kind == "ReplicaSet"
                    && deployments.contains(&(object.metadata.namespace.as_str(), deployment))
            })
        })
        .map(|object| object.key())
        .collect()
}

/// A name becomes free when who had it has ended.
async fn wait_for_leaving(
    store: &Directory,
    manifests: &Manifests,
    deadline: Instant,
) -> Result<(), LabError> {
    let keys: BTreeSet<ObjectKey> = manifests.objects.iter().map(Object::key).collect();
    loop {
        let (_, present) = settle::list(store).await?;
        let leaving = present
            .iter()
            .find(|object| object.metadata.deletion_timestamp.is_some() && keys.contains(&object.key()));
        let Some(leaving) = leaving else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(LabError::Late(format!(
                "{} is still being ended; nothing was applied",
                leaving.key()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn open(layout: &Layout) -> Result<Directory, LabError> {
    let path = layout.objects();
    let opened = tokio::task::spawn_blocking(move || Directory::open(path)).await;
    opened
        .map_err(other("opening the object store"))?
        .map_err(other("opening the object store"))
}

async fn transact<T: Send + 'static>(
    store: &Directory,
    body: impl FnOnce(&mut Txn<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, LabError> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || store.transaction(body)).await;
    match done.map_err(other("writing the objects"))? {
        Ok((value, _)) => Ok(value),
        Err(error @ (StoreError::Refused(_) | StoreError::Invalid { .. } | StoreError::TooLarge { .. })) => {
            Err(LabError::Usage(error.to_string()))
        }
        Err(error) => Err(other("writing the objects")(error)),
    }
}
