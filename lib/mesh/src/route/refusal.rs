//! Why a connection goes nowhere.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a connection goes nowhere. `Display` is a full sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The application called the proxy in its own pod.
    SelfCall {
        /// What it called.
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
    /// The mesh knows the destination, and asks for something that this version cannot do.
    NotYetSupported {
        /// The service (`namespace/hostname`) or workload (uid).
        target: Arc<str>,
        /// What is asked for.
        what: NotYetSupported,
    },
}

/// What this version cannot do. Connections that need it are refused, as plaintext around it would be worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotYetSupported {
    /// Going through a waypoint.
    Waypoint,
    /// Going to another network through its gateway.
    NetworkGateway,
    /// Going to a workload that has a host name instead of addresses.
    HostnameResolution,
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
    /// Without an address of the service's families.
    pub without_address: usize,
    /// On another network, reached through a gateway.
    pub behind_gateway: usize,
    /// Reached by host name.
    pub by_hostname: usize,
    /// Not close enough for a service that demands it.
    pub too_far: usize,
}

impl Refusal {
    /// A stable word for metrics, logs and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SelfCall { .. } => "self_call",
            Self::NoSuchPort { .. } => "no_such_port",
            Self::NoEndpoint { .. } => "no_endpoint",
            Self::NotUnderstood { .. } => "destination_not_understood",
            Self::NotYetSupported {
                what: NotYetSupported::Waypoint,
                ..
            } => "waypoint_not_supported",
            Self::NotYetSupported {
                what: NotYetSupported::NetworkGateway,
                ..
            } => "network_gateway_not_supported",
            Self::NotYetSupported {
                what: NotYetSupported::HostnameResolution,
                ..
            } => "hostname_resolution_not_supported",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfCall { destination } => {
                write!(f, "{destination} is the proxy itself; applications don't call it")
            }
            Self::NoSuchPort { service, port } => write!(f, "service {service} has no port {port}"),
            Self::NoEndpoint { service, shortage } => {
                write!(f, "service {service} has no endpoint to use: {shortage}")
            }
            Self::NotUnderstood { target, reason } => write!(
                f,
                "what the control plane says of {target} was not understood ({reason}); nothing is sent there in plaintext"
            ),
            Self::NotYetSupported { target, what } => write!(
                f,
                "{target} is reached {what}, which this version does not support; nothing was sent around it"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for NotYetSupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waypoint => "through a waypoint",
            Self::NetworkGateway => "through the gateway of another network",
            Self::HostnameResolution => "by a host name that has to be resolved",
        })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.write_str("it has none at all");
        }
        write!(f, "of {}", self.total)?;
        let counts = [
            (self.unready, "not ready"),
            (self.tried, "tried before"),
            (self.without_port, "without this port"),
            (self.without_address, "without a usable address"),
            (self.behind_gateway, "behind a gateway"),
            (self.by_hostname, "reached by host name"),
            (self.too_far, "not close enough"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
