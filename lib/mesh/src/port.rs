//! Ports and how one maps to another.

use std::num::NonZeroU16;

use proto::workload as wire;

/// A service's port and what it means on an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The port callers use.
    pub service_port: u16,
    /// The port of the endpoint; none where it differs between endpoints (a named port) or is the same.
    pub target_port: Option<NonZeroU16>,
    /// What is spoken there.
    pub app_protocol: AppProtocol,
}

/// What is spoken on a port; descriptive only, so a value we don't know counts as unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AppProtocol {
    /// Not said.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Anything on TCP.
    Tcp,
    /// TLS made by the application.
    Tls,
}

impl Port {
    pub(crate) fn from_proto(port: wire::Port) -> Result<Self, String> {
        let service_port = match port_number(port.service_port)? {
            0 => return Err("service_port 0 is no port".to_owned()),
            number => number,
        };
        Ok(Self {
            service_port,
            target_port: NonZeroU16::new(port_number(port.target_port)?),
            app_protocol: match wire::AppProtocol::try_from(port.app_protocol) {
                Ok(wire::AppProtocol::Http11) => AppProtocol::Http11,
                Ok(wire::AppProtocol::Http2) => AppProtocol::Http2,
                Ok(wire::AppProtocol::Grpc) => AppProtocol::Grpc,
                Ok(wire::AppProtocol::Tcp) => AppProtocol::Tcp,
                Ok(wire::AppProtocol::Tls) => AppProtocol::Tls,
                Ok(wire::AppProtocol::Unknown) | Err(_) => AppProtocol::Unknown,
            },
        })
    }
}

pub(crate) fn port_number(number: u32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("port {number} is above 65535"))
}
