//! Keeps the status of the Pod objects that stand for the node proxies true.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::Directory;
use objects::{Kind, ObjectKey};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::container::state_word;
use super::mesh::{self, SYSTEM_NAMESPACE, proxy_pod};
use super::runner::Run;
use crate::network::SharedNetwork;

/// How often the proxies are asked whether they are ready.
const LOOK: Duration = Duration::from_secs(1);

/// Asks for ever, and writes what has changed.
pub(super) async fn report(
    network: SharedNetwork,
    store: Directory,
    runs: BTreeMap<String, watch::Receiver<Run>>,
) {
    let mut written: BTreeMap<&str, Value> = BTreeMap::new();
    loop {
        for node in &network.nodes {
            let name = node.plan.name.as_str();
            let Some(run) = runs.get(name).map(|run| run.borrow().clone()) else {
                continue;
            };
            let ready = run.pid().is_some() && mesh::proxy_is_ready(node).await;
            let status = status(&run, ready);
            if written.get(name) == Some(&status) {
                continue;
            }
            let key = ObjectKey::new(Kind::Pod, SYSTEM_NAMESPACE, &proxy_pod(name));
            let (reading, wanted) = (store.clone(), key.clone());
            let found = tokio::task::spawn_blocking(move || reading.get(&wanted)).await;
            let Ok(Ok(Some(object))) = found else { continue };
            match store
                .patch_status(&key, &object.metadata.uid, status.clone())
                .await
            {
                Ok(_) => drop(written.insert(name, status)),
                Err(error) => tracing::warn!(%key, %error, "the status of a node proxy cannot be written"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn status(run: &Run, ready: bool) -> Value {
    let word = if ready { "True" } else { "False" };
    let state = match run.pid() {
        Some(_) => json!({ "running": {} }),
        None => json!({ "waiting": { "reason": state_word(run) } }),
    };
    json!({
        "conditions": [{ "type": "Ready", "status": word }],
        "containerStatuses": [{
            "name": "istio-proxy",
            "ready": ready,
            "restartCount": run.restarts,
            "state": state,
        }],
    })
}
