//! Ending a connection that is not ours to close.

use std::net::SocketAddr;
use std::time::Duration;
use sys::Namespace;
use sys::diag::{self, SocketInfo};
use sys::process::Command;

/// How a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The kernel destroyed the socket; both ends see a reset.
    Destroyed,
    /// This kernel cannot destroy sockets; a filter rule drops every further packet.
    Dropped,
}

/// Ends `socket` in `namespace`: destroys it where the kernel can, else drops its packets from now on.
pub(crate) async fn end(namespace: &Namespace, socket: &SocketInfo) -> std::io::Result<Ended> {
    if diag::destroy(namespace, socket)? {
        return Ok(Ended::Destroyed);
    }
    drop_packets(namespace, socket.local, socket.remote)
        .await
        .map(|()| Ended::Dropped)
}

/// Drops what arrives on the connection. The rule names one connection and is harmless when that is over; it
/// disappears with the pod's namespace.
async fn drop_packets(namespace: &Namespace, local: SocketAddr, remote: SocketAddr) -> std::io::Result<()> {
    let program = if local.is_ipv4() { "iptables" } else { "ip6tables" };
    let matching = format!(
        "-w 5 -t filter -I INPUT -p tcp -s {} --sport {} -d {} --dport {} -j DROP",
        remote.ip(),
        remote.port(),
        local.ip(),
        local.port()
    );
    let output = Command::new(program)
        .args(matching.split(' '))
        .network(namespace)
        .run("", DROP_DEADLINE)
        .await
        .map_err(std::io::Error::other)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!(
            "{program}: {}",
            output.stderr.trim()
        )))
    }
}

/// iptables waits for its lock 5 seconds.
const DROP_DEADLINE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests;
