//! Names of the mesh, as one pod sees them.

use crate::context::Context;
use crate::on_demand::service_key;
use crate::pods::Pod;
use dns::Resolver;
use futures_util::future::BoxFuture;
use mesh::{Asker, addresses_of_name};
use rand::seq::SliceRandom;
use std::net::IpAddr;
use std::sync::Arc;

/// What one pod can find by name.
pub(crate) struct Names {
    context: Arc<Context>,
    pod: Arc<Pod>,
}

impl Names {
    pub(super) fn new(context: &Arc<Context>, pod: &Arc<Pod>) -> Self {
        Self {
            context: context.clone(),
            pod: pod.clone(),
        }
    }
}

impl Resolver for Names {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let config = &self.context.config;
        let asker = Asker {
            viewpoint: mesh::Viewpoint {
                namespace: self.pod.identity.namespace(),
                preferred: config.preferred_service_namespace.as_deref(),
            },
            network: &config.network,
        };
        let mut addresses = addresses_of_name(&self.context.state.snapshot(), name, asker)?;
        // Many clients take the first.
        addresses.shuffle(&mut rand::rng());
        Some(addresses)
    }

    fn demand(&self, name: &str) -> Option<BoxFuture<'_, ()>> {
        let on_demand = self.context.state.on_demand();
        if !on_demand.is_on() {
            return None;
        }
        let key = service_key(name, &self.context.config.cluster_domain)?;
        Some(Box::pin(async move {
            // Without an answer the name is looked up where the pod looks up others; its address then has to be known
            // before anything is sent there.
            let _ = on_demand.service(&key).await;
        }))
    }

    fn zone<'n>(&'n self, name: &'n str) -> &'n str {
        let domain = self.context.config.cluster_domain.as_str();
        let within = name
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if within { domain } else { name }
    }
}
