//! Refusals by addresses that nobody wrote.

use mesh::Decision;
use mesh::authorize::Reason;
use objects::MtlsMode;
use proto::security::Action;

use super::{Inside, name_of};
use crate::ask::notes::asks_for_addresses;
use crate::world::World;

impl World {
    /// The ends of a refused connection whose address stands in no manifest, where that may be why it is refused: an address
    /// that nobody wrote says nothing. None where it would be refused from and to any address.
    pub(super) fn refused_by_made_up_address(
        &self,
        decision: &Decision,
        caller: &str,
        target: &Inside,
        port: Option<u16>,
    ) -> Vec<String> {
        let action = match &decision.reason {
            Reason::DeniedByPolicy { .. } => Action::Deny,
            Reason::NoAllowPolicyMatched { .. } => Action::Allow,
            _ => return Vec::new(),
        };
        let mut made_up = vec![caller.to_owned(), name_of(&target.object)];
        made_up.retain(|pod| {
            pod.split_once('/')
                .and_then(|(namespace, name)| self.pod(namespace, name))
                .is_some_and(|pod| pod.made_up_address)
        });
        if made_up.is_empty() || self.effective_mtls(&target.object, port).mode == MtlsMode::Strict {
            return Vec::new();
        }
        let Some(workload) = self.snapshot().workload(&target.workload.uid) else {
            return Vec::new();
        };
        let mut selecting = self.snapshot().policies_selecting(workload);
        let asks = selecting.any(|policy| {
            let compiled = self.compiled_policy(policy.key());
            compiled.is_some_and(|compiled| compiled.action() == action && asks_for_addresses(compiled))
        });
        if asks { made_up } else { Vec::new() }
    }
}
