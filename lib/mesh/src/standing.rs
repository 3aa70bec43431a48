//! Whether an outbound connection that is open still stands after the state has changed.
//!
//! What is open was right when it was opened. It stops being so when its source is no longer known under the same
//! identity, when the workload whose identity was proven is gone or is somebody else now, when what the control plane
//! says of its destination is no longer understood, and when its bytes go in plaintext to an address that was of
//! nobody and is a workload of the mesh now.
//!
//! Not reasons: that another endpoint would be chosen today, that an endpoint is no longer ready (it may finish what
//! it has begun), and that a workload that was known to be outside has joined. That last connection is older than the
//! enrolment, and stands as long as the policy of its destination lets it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::NetworkAddress;
use crate::identity::Identity;
use crate::route::{OutboundPolicy, Rules};
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::workload::{TunnelProtocol, Workload};

/// An outbound connection as it was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Whose it is.
    pub source: Arc<Workload>,
    /// Where it goes: the address it was dialled to for plaintext, what the application meant for a tunnel.
    pub destination: SocketAddr,
    /// How it goes there.
    pub way: Way,
}

/// How a connection goes to its destination.
#[derive(Debug, Clone)]
pub enum Way {
    /// Plain TCP, to this workload where it was known.
    Plain {
        /// The workload at the destination.
        workload: Option<Arc<Workload>>,
    },
    /// Through tunnels: each hop with the workload dialled and the identity that it has proven.
    Tunnel {
        /// The workload dialled: endpoint, waypoint or gateway.
        next: Arc<Workload>,
        /// Who it has proven to be.
        peer: Identity,
        /// The workload at the end, where known.
        workload: Option<Arc<Workload>>,
    },
}

/// Why an open connection does not stand any more. `Display` is the rest of a sentence that begins "because".
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stale {
    /// The source is not known any more, or under another identity.
    SourceChanged {
        /// Its uid.
        workload: Arc<str>,
    },
    /// A workload on the way is gone.
    PeerGone {
        /// Its uid.
        workload: Arc<str>,
    },
    /// The proven identity is no longer one that may answer.
    PeerChanged {
        /// Its uid.
        workload: Arc<str>,
        /// The identity that was proven.
        proven: Identity,
    },
    /// The destination has become one of the mesh, and the bytes go there in plaintext.
    InMeshNow {
        /// Its uid.
        workload: Arc<str>,
    },
    /// What the control plane now says of the destination is not understood.
    NotUnderstood {
        /// The service or workload.
        target: Arc<str>,
    },
    /// The destination is unknown now, and unknown destinations are refused here.
    UnknownNow {
        /// The destination.
        destination: SocketAddr,
    },
}

impl Stale {
    /// A stable word for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SourceChanged { .. } => "source_changed",
            Self::PeerGone { .. } => "peer_gone",
            Self::PeerChanged { .. } => "peer_changed",
            Self::InMeshNow { .. } => "destination_in_mesh_now",
            Self::NotUnderstood { .. } => "destination_not_understood",
            Self::UnknownNow { .. } => "unknown_destination",
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceChanged { workload } => {
                write!(
                    f,
                    "its source {workload} is not known under its identity any more"
                )
            }
            Self::PeerGone { workload } => write!(f, "workload {workload}, which it goes to, is gone"),
            Self::PeerChanged { workload, proven } => {
                write!(
                    f,
                    "{proven}, which it was opened to, may no longer answer for {workload}"
                )
            }
            Self::InMeshNow { workload } => write!(
                f,
                "its destination is {workload} of the mesh now, and it goes there in plaintext"
            ),
            Self::NotUnderstood { target } => {
                write!(
                    f,
                    "what the control plane says of {target} is not understood any more"
                )
            }
            Self::UnknownNow { destination } => write!(
                f,
                "the mesh no longer knows {destination}, and ZTUNNEL_OUTBOUND_POLICY refuses what it does not know"
            ),
        }
    }
}

/// The reason why an open connection does not stand any more, if there is one.
pub fn stale(opened: &Opened, snapshot: &Snapshot, rules: &Rules) -> Option<Stale> {
    let source = &opened.source;
    let same = |known: &Arc<Workload>| known.identity() == source.identity();
    if !snapshot.workload(&source.uid).is_some_and(same) {
        return Some(Stale::SourceChanged {
            workload: source.uid.clone(),
        });
    }
    let address = NetworkAddress::new(source.network.clone(), opened.destination.ip());
    if let Some(rejected) = snapshot.not_understood(&address) {
        return Some(Stale::NotUnderstood {
            target: rejected.name.as_str().into(),
        });
    }
    match &opened.way {
        Way::Plain { workload: None } => {
            plain_to_nobody(opened.destination, &address, source, snapshot, rules)
        }
        Way::Plain { workload: Some(_) } => None,
        Way::Tunnel { next, peer, workload } => changed(next, peer, snapshot, rules).or_else(|| {
            let end = workload.as_ref().filter(|end| end.uid != next.uid)?;
            gone(end, snapshot, rules)
        }),
    }
}

fn plain_to_nobody(
    destination: SocketAddr,
    address: &NetworkAddress,
    source: &Workload,
    snapshot: &Snapshot,
    rules: &Rules,
) -> Option<Stale> {
    if let Some(found) = snapshot.workload_by_address(address) {
        let tunnelled = source.native_tunnel || found.native_tunnel;
        return (found.tunnel == TunnelProtocol::Hbone && !tunnelled).then(|| Stale::InMeshNow {
            workload: found.uid.clone(),
        });
    }
    let known = snapshot.service_by_address(address, &source.namespace);
    let exact = snapshot.service_by_vip(address, &source.namespace).is_some();
    if !exact
        && !address.ip.is_loopback()
        && let Some(rejected) = snapshot.not_understood_around(address, known.map(|service| &**service))
    {
        return Some(Stale::NotUnderstood {
            target: rejected.name.as_str().into(),
        });
    }
    let unknown = known.is_none();
    (unknown && rules.outbound_policy == OutboundPolicy::RegistryOnly && !rules.on_demand)
        .then_some(Stale::UnknownNow { destination })
}

/// Whether the workload dialled is there and may still be answered for by `peer`: by itself, or by whom a service
/// names that it is an endpoint of.
fn changed(next: &Arc<Workload>, peer: &Identity, snapshot: &Snapshot, rules: &Rules) -> Option<Stale> {
    let Some(known) = snapshot.workload(&next.uid) else {
        return gone(next, snapshot, rules);
    };
    let mut services = known.services.keys().filter_map(|key| snapshot.service(key));
    let named = |service: &Arc<Service>| service.subject_alt_names.contains(peer);
    (known.identity() != *peer && !services.any(named)).then(|| Stale::PeerChanged {
        workload: next.uid.clone(),
        proven: peer.clone(),
    })
}

/// A snapshot of what was asked for forgets what nobody asks for any more; only a complete one knows who is gone.
fn gone(workload: &Arc<Workload>, snapshot: &Snapshot, rules: &Rules) -> Option<Stale> {
    (!rules.on_demand && snapshot.workload(&workload.uid).is_none()).then(|| Stale::PeerGone {
        workload: workload.uid.clone(),
    })
}
