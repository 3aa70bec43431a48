//! How many endpoints a service has elsewhere, and as whom they answer.

use std::collections::BTreeMap;

use mesh::Identity;
use proto::workload::{TunnelProtocol, Workload, WorkloadStatus};

/// The endpoints of one service in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// What those that are ready count for.
    pub(super) capacity: u64,
    /// As whom they answer, and how many of them do; also those that are not ready.
    pub(super) accounts: BTreeMap<String, usize>,
}

/// What one workload is to the services that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) services: Vec<String>,
    account: String,
    capacity: u32,
}

impl Contribution {
    /// `None` for what cannot be reached through a gateway: the second tunnel ends at the endpoint, which must take
    /// tunnels and answer as somebody.
    pub(super) fn of(trust_domain: &str, workload: &Workload) -> Option<Contribution> {
        let is_reached =
            workload.tunnel_protocol() == TunnelProtocol::Hbone && !workload.service_account.is_empty();
        if !is_reached || workload.services.is_empty() {
            return None;
        }
        let capacity = match workload.status() {
            WorkloadStatus::Healthy => workload.capacity.unwrap_or(1),
            WorkloadStatus::Unhealthy => 0,
        };
        let account = Identity::new(trust_domain, &workload.namespace, &workload.service_account);
        Some(Contribution {
            services: workload.services.keys().cloned().collect(),
            account: account.to_string(),
            capacity,
        })
    }
}

impl Tally {
    pub(super) fn add(&mut self, contribution: &Contribution) {
        self.capacity += u64::from(contribution.capacity);
        *self.accounts.entry(contribution.account.clone()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, contribution: &Contribution) {
        self.capacity = self.capacity.saturating_sub(contribution.capacity.into());
        if let Some(count) = self.accounts.get_mut(&contribution.account) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(&contribution.account);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}
