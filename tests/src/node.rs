use std::net::IpAddr;

use sys::Namespace;

use crate::http::{Response, http_get};
use crate::place::Place;

/// A node of a lab, or another of its namespaces that is no pod: `fabric`, `control-plane`.
#[derive(Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses on the wire between the nodes.
    pub addresses: Vec<IpAddr>,
    /// Its namespace.
    pub network: Namespace,
}

impl Node {
    /// Its proxy's metrics.
    pub fn metrics(&self) -> String {
        let Response { status, body } =
            http_get(self, "127.0.0.1:15020".parse().expect("an address"), "/metrics")
                .unwrap_or_else(|error| panic!("the metrics of {}: {error}", self.name));
        assert_eq!(status, 200, "the metrics of {}: {body}", self.name);
        body
    }
}

impl Place for Node {
    fn network(&self) -> &Namespace {
        &self.network
    }
}
