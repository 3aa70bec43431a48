//! What the control plane says, one resource at a time.

#[cfg(test)]
mod tests;

use proto::workload as wire;

use crate::policy::Policy;
use crate::rejected::Rejected;
use crate::service::Service;
use crate::workload::Workload;

/// One change of the snapshot. It lives for the moment between decoding and applying.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "short-lived; a box would cost an allocation and save nothing"
)]
pub enum Change {
    /// A workload is new or changed.
    Workload(Workload),
    /// A service is new or changed.
    Service(Service),
    /// A policy is new or changed.
    Policy(Policy),
    /// The workload of this uid or the service `namespace/hostname` is gone.
    RemoveAddress(String),
    /// The policy `namespace/name` is gone.
    RemovePolicy(String),
    /// A policy was not understood. Its last good version stays; without one everything it might apply to is
    /// closed until a good version or its removal arrives.
    RejectedPolicy(Rejected),
    /// The first complete set of policies has arrived. Before it, every connection is refused.
    PoliciesSynced,
}

impl Change {
    /// Reads an encoded `istio.workload.Address`: a workload or a service.
    pub fn decode_address(bytes: &[u8]) -> Result<Self, Rejected> {
        let address: wire::Address = prost::Message::decode(bytes)
            .map_err(|error| Rejected::new("", format!("is no valid Address message: {error}")))?;
        match address.r#type {
            Some(wire::address::Type::Workload(workload)) => {
                Workload::from_proto(workload).map(Self::Workload)
            }
            Some(wire::address::Type::Service(service)) => Service::from_proto(service).map(Self::Service),
            None => Err(Rejected::new("", "is neither a workload nor a service")),
        }
    }

    /// Reads an encoded `istio.security.Authorization` delivered under this name (`namespace/name`). It never
    /// fails: what cannot be read is the change [`Change::RejectedPolicy`], so that it cannot be forgotten.
    pub fn decode_policy(name: &str, bytes: &[u8]) -> Self {
        match Policy::decode(bytes) {
            Ok(policy) if **policy.key() == *name => Self::Policy(policy),
            Ok(policy) => Self::RejectedPolicy(Rejected::new(
                name,
                format!("is delivered under this name, but says it is {}", policy.key()),
            )),
            Err(rejected) => Self::RejectedPolicy(rejected.named(name)),
        }
    }
}
