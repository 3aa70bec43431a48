//! The roots that the control plane says count, where it offers to say so.
//!
//! A bundle comes over the authenticated discovery stream only. It is in force, for handshakes and for the tunnels that
//! are open, before it is acknowledged. One that cannot be used is rejected, and the last good one stays; so it does
//! when the control plane takes its bundle back or is exchanged for one that offers none.

use crate::context::Context;
use crate::identities::{Bundle, Revoked};
use prost::Message;
use proto::origin::TrustBundle;
use std::sync::Arc;
use tls::Roots;
use tracing::{info, warn};
use xds_client::{Rejection, ResourceUpdate, Update};

/// Takes bundles over.
pub(crate) struct TrustBundles {
    context: Arc<Context>,
}

impl TrustBundles {
    /// Puts bundles in force in `context`.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Puts an update in force; what of it is not accepted.
    pub(crate) async fn apply(&self, update: &Update) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for resource in &update.resources {
            if let Err(reason) = self.take(resource).await {
                warn!(
                    resource = resource.name,
                    reason, "a bundle of roots is refused; the last good one stays in force"
                );
                let name = resource.name.clone();
                rejections.push(Rejection { name, reason });
            }
        }
        if !update.removed.is_empty() {
            warn!("the control plane has taken back its bundle of roots; the last one stays in force");
        }
        rejections
    }

    async fn take(&self, resource: &ResourceUpdate) -> Result<(), String> {
        let own = &self.context.config.trust_domain;
        let bundle = read(resource, own)?;
        let generation = bundle.generation;
        let before = self.context.identities.bundle();
        if let Some(before) = &before {
            if generation < before.generation {
                return Err(format!(
                    "generation {generation} is older than {}, which is in force",
                    before.generation
                ));
            }
            if generation == before.generation && bundle.roots != before.roots {
                return Err(format!(
                    "there is another bundle of generation {generation} in force"
                ));
            }
            // A greater generation was written after all lists of the one before.
            let (held, number) = (before.revoked.number, bundle.revoked.number);
            if generation == before.generation && number < held {
                return Err(format!(
                    "what it says is revoked has number {number}, which is older than {held}, which is in force"
                ));
            }
        }
        if before.as_ref() == Some(&bundle) {
            return Ok(());
        }
        info!(
            generation,
            roots = bundle.roots.len(),
            revocation_lists = bundle.revoked.lists.len(),
            "the control plane says which roots count"
        );
        self.context.identities.set_bundle(bundle).await;
        crate::trust::close_untrusted(&self.context).await;
        Ok(())
    }
}

pub(crate) fn read(resource: &ResourceUpdate, own_trust_domain: &str) -> Result<Bundle, String> {
    let message = TrustBundle::decode(resource.payload.clone()).map_err(|error| error.to_string())?;
    let TrustBundle {
        generation,
        trust_domain,
        roots,
        retired_roots,
        revocation_lists,
        revocation_number,
    } = message;
    if trust_domain != own_trust_domain {
        return Err(format!(
            "it is for trust domain '{trust_domain}', not '{own_trust_domain}'; compare TRUST_DOMAIN with the control plane's"
        ));
    }
    let roots = Roots::from_pem(&roots).map_err(|error| error.to_string())?;
    let retired = match retired_roots.as_str() {
        "" => None,
        text => Some(Roots::from_pem(text).map_err(|error| format!("the retired roots: {error}"))?),
    };
    let revoked = Revoked::read(revocation_number, &revocation_lists)?;
    Ok(Bundle {
        generation,
        roots,
        retired,
        revoked,
    })
}

#[cfg(test)]
mod tests;
