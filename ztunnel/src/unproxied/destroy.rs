//! Ending a connection that is not ours to close.

use sys::diag::{self, SocketInfo};
use sys::{Namespace, nftables};

/// How a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The kernel destroyed the socket; both ends see a reset.
    Destroyed,
    /// This kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY); a rule drops every further packet.
    Dropped,
    /// The same, and it was so before: the application has not noticed yet.
    DroppedBefore,
}

/// Ends `socket` in `namespace`: destroys it where the kernel can, else drops its packets from now on. The node agent takes
/// the rule away when the pod leaves the mesh.
pub(crate) fn end(namespace: &Namespace, socket: &SocketInfo) -> std::io::Result<Ended> {
    if diag::destroy(namespace, socket)? {
        return Ok(Ended::Destroyed);
    }
    drop_packets(namespace, socket)
}

fn drop_packets(namespace: &Namespace, socket: &SocketInfo) -> std::io::Result<Ended> {
    let is_new = nftables::drop_connection(namespace, socket.local, socket.remote)?;
    Ok(if is_new {
        Ended::Dropped
    } else {
        Ended::DroppedBefore
    })
}

#[cfg(test)]
mod tests;
