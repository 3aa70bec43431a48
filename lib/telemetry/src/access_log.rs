//! One line for each closed connection.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ResponseFlags;

#[cfg(test)]
mod tests;

/// Which way a connection goes, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the pod.
    Inbound,
    /// From the pod.
    Outbound,
}

impl Direction {
    /// The value of the field `direction`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// One end of a connection. What is not known is left out of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessEndpoint<'a> {
    /// Its address.
    pub addr: Option<SocketAddr>,
    /// What was asked for inside the tunnel, an address or a host name and port, where `addr` is the tunnel's end.
    /// Destination only.
    pub hbone_addr: Option<&'a str>,
    /// The host name of the service that was called. Destination only.
    pub service: Option<&'a str>,
    /// The pod's name.
    pub workload: Option<&'a str>,
    /// The pod's namespace.
    pub namespace: Option<&'a str>,
    /// The authenticated identity, as a SPIFFE URI.
    pub identity: Option<&'a str>,
    /// The cluster's id.
    pub cluster: Option<&'a str>,
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFailure<'a> {
    /// The whole sentence for people.
    pub error: &'a str,
    /// The same as a short stable word.
    pub reason: &'a str,
    /// The flags that the metrics carry.
    pub flags: ResponseFlags,
}

/// A connection, as the access log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog<'a> {
    /// The initiator.
    pub source: AccessEndpoint<'a>,
    /// The acceptor.
    pub destination: AccessEndpoint<'a>,
    /// Which way.
    pub direction: Direction,
    /// Bytes that the side whose proxy writes this line sent: the initiator's for [`Direction::Outbound`], the
    /// acceptor's for [`Direction::Inbound`].
    pub bytes_sent: u64,
    /// Bytes that this side received.
    pub bytes_recv: u64,
    /// From accepting the connection to its end.
    pub duration: Duration,
    /// The W3C trace id that both ends of a tunnel write, to find one's line by the other's.
    pub trace_id: Option<&'a str>,
    /// What dry-run policies would have decided, if there are any.
    pub dry_run: Option<&'a str>,
    /// What policies say of this connection's destination and nobody enforces, if anything.
    pub not_enforced: Option<&'a str>,
    /// How it failed, if it did.
    pub failure: Option<AccessFailure<'a>>,
}

/// The fields are the same at every level, but a level is part of where a line comes from.
macro_rules! line {
    ($level:ident, $record:expr, $message:literal, $($end:tt)*) => {{
        let record: &AccessLog<'_> = $record;
        let (source, destination) = (&record.source, &record.destination);
        tracing::$level!(
            target: "access",
            {
            src.addr = source.addr.map(tracing::field::display),
            src.workload = source.workload,
            src.namespace = source.namespace,
            src.identity = source.identity,
            src.cluster = source.cluster,
            dst.addr = destination.addr.map(tracing::field::display),
            dst.hbone_addr = destination.hbone_addr.map(tracing::field::display),
            dst.service = destination.service,
            dst.workload = destination.workload,
            dst.namespace = destination.namespace,
            dst.identity = destination.identity,
            dst.cluster = destination.cluster,
            direction = record.direction.as_str(),
            $($end)*
            },
            $message
        );
    }};
}

impl AccessLog<'_> {
    /// Writes the line of a connection that has ended: INFO when all was well, else ERROR.
    pub fn write(&self) {
        let duration = format!("{}ms", self.duration.as_millis());
        match self.failure {
            None => line!(
                info,
                self,
                "connection complete",
                bytes_sent = self.bytes_sent,
                bytes_recv = self.bytes_recv,
                duration = duration.as_str(),
                trace_id = self.trace_id,
                dry_run = self.dry_run,
                not_enforced = self.not_enforced,
            ),
            Some(failure) => line!(
                error,
                self,
                "connection complete",
                bytes_sent = self.bytes_sent,
                bytes_recv = self.bytes_recv,
                duration = duration.as_str(),
                trace_id = self.trace_id,
                dry_run = self.dry_run,
                not_enforced = self.not_enforced,
                response_flags = failure.flags.as_str(),
                reason = failure.reason,
                error = failure.error,
            ),
        }
    }

    /// Writes a DEBUG line for a connection that has just been established.
    pub fn write_opened(&self) {
        line!(debug, self, "connection opened", trace_id = self.trace_id,);
    }
}
