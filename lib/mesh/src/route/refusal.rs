//! Why a connection goes nowhere.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a connection goes nowhere. `Display` is a full sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The application called the proxy in its own pod.
    SelfCall {
        /// What it called.
        destination: SocketAddr,
    },
    /// Nothing of the mesh has this address, and only what the mesh knows may be called.
    NotInRegistry {
        /// What was called.
        destination: SocketAddr,
    },
    /// The service has no such port.
    NoSuchPort {
        /// Its `namespace/hostname`.
        service: Arc<str>,
        /// The port that was called.
        port: u16,
    },
    /// The service has no endpoint that could be used.
    NoEndpoint {
        /// Its `namespace/hostname`.
        service: Arc<str>,
        /// What became of its endpoints.
        shortage: Shortage,
    },
    /// What the control plane says of the destination was not understood.
    NotUnderstood {
        /// The service (`namespace/hostname`) or workload (uid).
        target: Arc<str>,
        /// What was not understood.
        reason: Arc<str>,
    },
    /// The destination is reached through something that cannot be used.
    NoWay {
        /// The service (`namespace/hostname`) or workload (uid) that was addressed.
        target: Arc<str>,
        /// What it is reached through.
        through: Through,
        /// The waypoint or gateway: `namespace/hostname` or `network/address`.
        name: Arc<str>,
        /// Why it cannot be used.
        obstacle: Obstacle,
    },
    /// The endpoint is on another network, and neither it nor its service says who answers there.
    NoRemoteIdentity {
        /// The service's `namespace/hostname`.
        service: Arc<str>,
        /// The endpoint's network.
        network: Arc<str>,
    },
    /// The endpoint has a host name instead of addresses, and it could not be resolved.
    NameNotResolved {
        /// The host name.
        hostname: Arc<str>,
        /// Why not, as part of a sentence.
        reason: Arc<str>,
    },
}

/// What stands between a caller and a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Through {
    /// The waypoint of the service or workload.
    Waypoint,
    /// The gateway of the network that it is on.
    Gateway,
}

/// Why a waypoint or gateway cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The control plane has sent no service or workload of this name or address.
    Unknown,
    /// It is a service without an endpoint that could be used.
    NoEndpoint(Shortage),
    /// It failed for this connection before.
    Tried,
    /// It is on another network, and only what is addressed as a service can be reached there.
    OtherNetwork,
}

/// How many endpoints of a service fell away, and for what. Each is counted once, for the first reason in this
/// order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shortage {
    /// All endpoints of the service.
    pub total: usize,
    /// Not ready.
    pub unready: usize,
    /// Failed for this connection before.
    pub tried: usize,
    /// Without this port.
    pub without_port: usize,
    /// On another network, without a gateway that could be used.
    pub without_gateway: usize,
    /// Without an address of the service's families.
    pub without_address: usize,
    /// Having a host name that could not be resolved.
    pub unresolved: usize,
    /// Not close enough for a service that demands it.
    pub too_far: usize,
}

impl Refusal {
    /// A stable word for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SelfCall { .. } => "self_call",
            Self::NotInRegistry { .. } => "not_in_registry",
            Self::NoSuchPort { .. } => "no_such_port",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::NotUnderstood { .. } => "destination_not_understood",
            Self::NoWay {
                through: Through::Waypoint,
                obstacle,
                ..
            } => match obstacle {
                Obstacle::Unknown => "waypoint_unknown",
                Obstacle::NoEndpoint(_) | Obstacle::Tried => "waypoint_unavailable",
                Obstacle::OtherNetwork => "waypoint_on_other_network",
            },
            Self::NoWay {
                through: Through::Gateway,
                obstacle,
                ..
            } => match obstacle {
                Obstacle::Unknown => "gateway_unknown",
                Obstacle::NoEndpoint(_) | Obstacle::Tried => "gateway_unavailable",
                Obstacle::OtherNetwork => "gateway_on_other_network",
            },
            Self::NoRemoteIdentity { .. } => "no_remote_identity",
            Self::NameNotResolved { .. } => "name_not_resolved",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfCall { destination } => {
                write!(
                    f,
                    "{destination} is the proxy itself, not an application; call another address or port"
                )
            }
            Self::NotInRegistry { destination } => write!(
                f,
                "nothing in the mesh has the address {destination}, and ZTUNNEL_OUTBOUND_POLICY=REGISTRY_ONLY refuses \
                 the rest; declare it (ServiceEntry), or set ALLOW_ANY"
            ),
            Self::NoSuchPort { service, port } => {
                write!(
                    f,
                    "service {service} has no port {port}; call one that it lists, or add it"
                )
            }
            Self::NoEndpoint { service, shortage } => {
                write!(f, "service {service} has no endpoint to use: {shortage}")
            }
            Self::NotUnderstood { target, reason } => write!(
                f,
                "what the control plane says of {target} was not understood ({reason}); nothing is sent there in \
                 plaintext; mend the resource, or use versions that understand each other"
            ),
            Self::NoWay {
                target,
                through,
                name,
                obstacle,
            } => {
                write!(f, "{target} is reached through {through} {name}, ")?;
                match obstacle {
                    Obstacle::Unknown => write!(
                        f,
                        "which the control plane has not sent; nothing was sent around it: create it, or take its name \
                         off the destination"
                    ),
                    Obstacle::NoEndpoint(shortage) => write!(
                        f,
                        "which has no endpoint to use: {shortage}; nothing was sent around it"
                    ),
                    Obstacle::Tried => write!(
                        f,
                        "which was tried and failed; nothing was sent around it: look at its log"
                    ),
                    Obstacle::OtherNetwork => write!(
                        f,
                        "which is on another network; call a service instead of an address of its own"
                    ),
                }
            }
            Self::NoRemoteIdentity { service, network } => write!(
                f,
                "service {service} has an endpoint on network {network}, and nothing says which identity answers \
                 there; list it in the service's subject alternative names"
            ),
            Self::NameNotResolved { hostname, reason } => write!(
                f,
                "the endpoint's host name {hostname} could not be resolved ({reason}); check the name, and the name \
                 servers of this node"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waypoint => "waypoint",
            Self::Gateway => "network gateway",
        })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.write_str("it has none at all; start one, or check what the service selects");
        }
        write!(f, "of {}", self.total)?;
        let counts = [
            (self.unready, "not ready"),
            (self.tried, "tried before"),
            (self.without_port, "without this port"),
            (
                self.without_gateway,
                "on another network without a usable gateway",
            ),
            (self.without_address, "without a usable address"),
            (self.unresolved, "with a host name that does not resolve"),
            (self.too_far, "not close enough"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
