//! An API server and clients of it, for tests.

use std::time::Duration;

use kube_api::{ApiServer, Options, Record};
use serde_json::json;

/// Long enough for any machine; a test that passes never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const NAMESPACE: &str = "istio-system";

pub(crate) async fn server() -> ApiServer {
    let server = ApiServer::start(Options::default()).await.unwrap();
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    server.put(namespace).unwrap();
    server
}

/// A client with connections of its own.
pub(crate) fn client(server: &ApiServer) -> kube::Client {
    kube_source::ApiServer::at(&server.url(), None, None)
        .unwrap()
        .client()
}

/// How many requests of this method were answered for paths that hold this.
pub(crate) fn asked(server: &ApiServer, method: &str, path: &str) -> Vec<Record> {
    let all = server.records().into_iter();
    all.filter(|record| record.method == method && record.uri.contains(path))
        .collect()
}

/// Waits for something that is seen by looking.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.unwrap_or_else(|_| panic!("never came: {what}"));
}
