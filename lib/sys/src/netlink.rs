//! A plain netlink socket inside a namespace, for the protocols spoken here by hand.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::Namespace;

/// Bytes of `nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Message types and flags of linux/netlink.h.
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLMSG_ERROR: u16 = 2;

/// A netlink answer comes at once or never; this bounds "never".
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct NetlinkSocket(OwnedFd);

impl NetlinkSocket {
    pub(crate) fn open(namespace: &Namespace, protocol: SockProtocol) -> io::Result<Self> {
        let made = namespace.enter(|| {
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                protocol,
            )
        })?;
        let fd = made?;
        socket2::SockRef::from(&fd).set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(fd))
    }

    pub(crate) fn send(&self, request: &[u8]) -> io::Result<()> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
        Ok(())
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::empty())?)
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Messages and attributes begin at multiples of four bytes.
pub(crate) fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The error number that a payload begins with, which the kernel writes as a negative; 0: all went well. `None`: there
/// is none, or one that the kernel does not write.
pub(crate) fn error_number(payload: &[u8]) -> Option<i32> {
    let number = u32_at(payload, 0)?.cast_signed();
    (number <= 0).then(|| number.saturating_neg())
}
