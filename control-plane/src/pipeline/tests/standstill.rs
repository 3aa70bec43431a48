//! A process that stood still reads everything anew.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::stream::{self, BoxStream};
use telemetry::ControlPlaneMetrics;

use super::*;
use crate::mesh_settings::Flags;
use crate::standstill::Now;

/// Each stream tells one batch, and nothing after that.
struct Source(Mutex<Vec<Batch>>);

impl ObjectSource for Source {
    fn watch(&self) -> BoxStream<'static, Result<Batch, SourceError>> {
        let batch = self.0.lock().unwrap().pop().expect("nobody watches so often");
        stream::once(async { Ok(batch) }).chain(stream::pending()).boxed()
    }
}

fn pod(name: &str, address: &str) -> StoreChange {
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "demo" },
        "spec": { "containers": [{ "name": "a" }] }, "status": { "phase": "Running", "podIP": address },
    }));
    StoreChange::Put(Arc::new(object.unwrap()))
}

#[tokio::test]
async fn what_went_while_the_process_stood_still_goes_and_it_is_behind_until_then() {
    let before = batch(7, true, vec![pod("stays", "10.0.0.1"), pod("goes", "10.0.0.2")]);
    // A source that is begun anew counts anew.
    let after = batch(1, true, vec![pod("stays", "10.0.0.1"), pod("comes", "10.0.0.3")]);
    let source = Arc::new(Source(Mutex::new(vec![after, before])));
    let standstill = Standstill::default();
    let told = Told {
        pods: Pods::default(),
        conditions: None,
        events: None,
        progress: Progress::default(),
        standstill: standstill.clone(),
        metrics: ControlPlaneMetrics::new("1.0"),
    };
    let (first, compiled) = oneshot::channel();
    let settings = (
        compile::Settings::default(),
        MeshSettings::new("istio-system", Flags::default(), ""),
    );
    let task = tokio::spawn(run(source, None, settings, told, first));
    let (mut views, _) = compiled.await.unwrap();
    let names = |history: &History| -> BTreeMap<String, u64> {
        let view = history.latest();
        let names = view.addresses.iter().map(|resource| resource.name.to_string());
        names.map(|name| (name, view.revision)).collect()
    };
    let name = |pod: &str| format!("Kubernetes//Pod/demo/{pod}");
    let found = names(&views.borrow_and_update());
    assert_eq!(found, BTreeMap::from([(name("stays"), 7), (name("goes"), 7)]));

    let now = Now::read();
    standstill.look(now);
    let later = now.after(Duration::from_secs(3600));
    standstill.look(later);
    assert!(standstill.is_behind(later));
    views.changed().await.unwrap();
    let found = names(&views.borrow_and_update());
    assert_eq!(found, BTreeMap::from([(name("stays"), 8), (name("comes"), 8)]));
    while standstill.is_behind(later) {
        tokio::task::yield_now().await;
    }
    task.abort();
}
