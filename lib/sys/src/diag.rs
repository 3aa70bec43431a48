//! The kernel's list of TCP sockets in a namespace, and closing sockets that belong to others (sock_diag(7)).

use std::{io, net::SocketAddr};

use nix::sys::socket::SockProtocol;

use crate::{Namespace, netlink::NetlinkSocket};
use codec::{Answer, Family};

mod codec;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

/// One TCP socket as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketInfo {
    /// The local address; IPv4 also where the socket is a dual-stack one.
    pub local: SocketAddr,
    /// The remote address; unspecified with port 0 for a listener.
    pub remote: SocketAddr,
    /// Where in its life it is.
    pub state: State,
    /// SO_MARK; 0 where the kernel does not tell (it tells those with CAP_NET_ADMIN).
    pub mark: u32,
    /// The inode in `/proc/PID/fd`; 0 once no process holds it.
    pub inode: u32,
    id: codec::SocketId,
}

/// TCP states (RFC 9293 §3.3.2, with the kernel's numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// ESTABLISHED
    Established = 1,
    /// SYN-SENT
    SynSent = 2,
    /// SYN-RECEIVED
    SynReceived = 3,
    /// FIN-WAIT-1
    FinWait1 = 4,
    /// FIN-WAIT-2
    FinWait2 = 5,
    /// TIME-WAIT
    TimeWait = 6,
    /// CLOSED
    Closed = 7,
    /// CLOSE-WAIT
    CloseWait = 8,
    /// LAST-ACK
    LastAck = 9,
    /// LISTEN
    Listen = 10,
    /// CLOSING
    Closing = 11,
    /// A connection request that waits for the final ACK (TCP_NEW_SYN_RECV).
    NewSynReceived = 12,
}

/// Lists the TCP sockets of the namespace, IPv4 and IPv6: listeners and every connection that can still carry data
/// (not TIME-WAIT). Blocks for as long as the kernel takes.
pub fn sockets(namespace: &Namespace) -> io::Result<Vec<SocketInfo>> {
    let socket = Diag::open(namespace)?;
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        match socket.dump(family) {
            Ok(list) => found.extend(list),
            // A kernel without IPv6 has no such handler.
            Err(error) if family == Family::V6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Closes a socket of another process: its reads and writes fail with ECONNABORTED and the peer gets a reset. The
/// socket is the very one that was listed (the kernel compares a cookie), not another one on the same addresses.
///
/// `Ok(true)`: the socket is gone, by this or by itself. `Ok(false)`: this kernel cannot do it (INET_DIAG_DESTROY is
/// missing).
pub fn destroy(namespace: &Namespace, socket: &SocketInfo) -> io::Result<bool> {
    match Diag::open(namespace)?.destroy(&socket.id) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(true),
            Some(libc::EOPNOTSUPP | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

/// A dump that changed under the kernel's hands is asked for again this often.
const DUMP_ATTEMPTS: usize = 5;
/// One datagram of a dump; the kernel fills at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

struct Diag(NetlinkSocket);

impl Diag {
    fn open(namespace: &Namespace) -> io::Result<Self> {
        NetlinkSocket::open(namespace, SockProtocol::NetlinkSockDiag).map(Self)
    }

    fn dump(&self, family: Family) -> io::Result<Vec<SocketInfo>> {
        for _ in 0..DUMP_ATTEMPTS {
            self.0.send(&codec::dump_request(family))?;
            let mut found = Vec::new();
            if self.receive(|socket| found.push(socket))? == Dump::Consistent {
                return Ok(found);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the kernel's socket list kept changing while it was read; try again",
        ))
    }

    fn destroy(&self, id: &codec::SocketId) -> io::Result<()> {
        self.0.send(&codec::destroy_request(id))?;
        self.receive(|_| {}).map(|_| ())
    }

    /// Reads answers until the kernel says it is done or reports an error.
    fn receive(&self, mut each: impl FnMut(SocketInfo)) -> io::Result<Dump> {
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        let mut dump = Dump::Consistent;
        loop {
            let length = self.0.receive(&mut buffer)?;
            for answer in codec::answers(&buffer[..length]) {
                match answer? {
                    Answer::Socket(socket) => each(socket),
                    Answer::Interrupted => dump = Dump::Interrupted,
                    Answer::Done => return Ok(dump),
                    Answer::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Dump {
    Consistent,
    Interrupted,
}

#[cfg(test)]
mod tests;
