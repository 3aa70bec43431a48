//! What the tests share.

use std::sync::Arc;

use compile::Settings;
use objects::Object;

use crate::{Answer, Basis, Unanswerable, World};

pub(crate) fn objects(text: &str) -> Vec<Arc<Object>> {
    let objects = objects::parse("test.yaml", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    objects.into_iter().map(Arc::new).collect()
}

/// A mesh on manifests.
pub(crate) fn world(text: &str) -> World {
    World::new(Basis::Manifests, Settings::default(), objects(text))
}

/// A mesh on what is applied.
pub(crate) fn applied(text: &str) -> World {
    World::new(Basis::Applied, Settings::default(), objects(text))
}

pub(crate) fn ask(world: &World, from: &str, to: &str) -> Result<Answer, Unanswerable> {
    world.ask(&from.parse().unwrap(), &to.parse().unwrap())
}

/// `allow code` or `deny code`.
pub(crate) fn told(world: &World, from: &str, to: &str) -> String {
    match ask(world, from, to) {
        Ok(answer) => {
            let verdict = if answer.is_allowed() { "allow" } else { "deny" };
            format!("{verdict} {}", answer.decisive().code())
        }
        Err(error) => error.to_string(),
    }
}

/// `shop` in the mesh with `web` (account `web`, ports 8080 named http, and 9090) and `client`, and `outside` with
/// `legacy`.
pub(crate) const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: web, labels: {app: web}}
spec:
  serviceAccountName: web
  containers: [{name: a, ports: [{name: http, containerPort: 8080}, {containerPort: 9090}]}]
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: client}
spec: {serviceAccountName: client, containers: [{name: a}]}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {namespace: outside, name: legacy}
spec: {containers: [{name: a}]}
status: {podIP: 10.9.0.1}
---
"#;
