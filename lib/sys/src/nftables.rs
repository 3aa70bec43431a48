//! Removing nftables tables that nobody uses any more (linux/netfilter/nf_tables.h).
//!
//! `iptables` on nftables makes tables and built-in chains as needed and never removes them; as long as they are there,
//! the kernel tracks and translates connections for nobody.

use std::io;

use nix::sys::socket::SockProtocol;

use crate::{
    Namespace,
    netlink::{
        HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkSocket, aligned, error_number, u16_at, u32_at,
    },
};

/// The family of a table as iptables makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFamily {
    /// `ip`, of iptables.
    V4,
    /// `ip6`, of ip6tables.
    V6,
}

/// Removes a table with the built-in chains of iptables, unless a rule or anything else is in it: the kernel itself
/// refuses then. Says whether the table is gone.
pub fn remove_if_empty(namespace: &Namespace, family: TableFamily, table: &str) -> io::Result<bool> {
    let mut socket = Transaction {
        socket: NetlinkSocket::open(namespace, SockProtocol::NetlinkNetFilter)?,
        sequence: 0,
    };
    for chain in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        let attributes = [(NFTA_CHAIN_TABLE, table), (NFTA_CHAIN_NAME, chain)];
        socket.delete(NFT_MSG_DELCHAIN, family, &attributes)?;
    }
    socket.delete(NFT_MSG_DELTABLE, family, &[(NFTA_TABLE_NAME, table)])
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
/// Do not delete what is in it: refuse instead.
const NLM_F_NONREC: u16 = 0x100;

/// Changes of nftables are sent in batches; each here holds one deletion, so that one refusal spoils no other.
struct Transaction {
    socket: NetlinkSocket,
    sequence: u32,
}

impl Transaction {
    /// Deletes one thing. Says whether it is gone; it stays when something is in it.
    fn delete(&mut self, kind: u16, family: TableFamily, attributes: &[(u16, &str)]) -> io::Result<bool> {
        let family = match family {
            TableFamily::V4 => libc::NFPROTO_IPV4 as u8,
            TableFamily::V6 => libc::NFPROTO_IPV6 as u8,
        };
        let batch = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let mut request = Vec::new();
        self.message(
            &mut request,
            NFNL_MSG_BATCH_BEGIN,
            NLM_F_REQUEST,
            [0, 0, batch[0], batch[1]],
            &[],
        );
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_NONREC;
        let asked = self.message(&mut request, kind, flags, [family, 0, 0, 0], attributes);
        self.message(
            &mut request,
            NFNL_MSG_BATCH_END,
            NLM_F_REQUEST,
            [0, 0, batch[0], batch[1]],
            &[],
        );
        self.socket.send(&request)?;
        match self.answer(asked)? {
            0 | libc::ENOENT => Ok(true),
            libc::EBUSY => Ok(false),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Appends a message and returns its sequence number.
    fn message(
        &mut self,
        to: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        nfgenmsg: [u8; 4],
        attributes: &[(u16, &str)],
    ) -> u32 {
        self.sequence += 1;
        let start = to.len();
        to.extend([0; 4]);
        to.extend(kind.to_ne_bytes());
        to.extend(flags.to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        to.extend([0; 4]);
        to.extend(nfgenmsg);
        for (attribute, text) in attributes {
            let length = 4 + text.len() + 1;
            to.extend((length as u16).to_ne_bytes());
            to.extend(attribute.to_ne_bytes());
            to.extend(text.as_bytes());
            to.resize(start + aligned(to.len() + 1 - start), 0);
        }
        let length = (to.len() - start) as u32;
        to[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.sequence
    }

    /// The error number in the acknowledgement of that message; 0 is success.
    fn answer(&self, asked: u32) -> io::Result<i32> {
        let mut buffer = [0u8; 4096];
        loop {
            let length = self.socket.receive(&mut buffer)?;
            let mut rest = &buffer[..length];
            while let Some(message_length) = u32_at(rest, 0).map(|length| length as usize) {
                let message = rest.get(..message_length).unwrap_or_default();
                if message.len() < HEADER {
                    return Err(malformed());
                }
                if u16_at(message, 4) == Some(NLMSG_ERROR) {
                    let errno = error_number(&message[HEADER..]).ok_or_else(malformed)?;
                    // An error may also be about the batch itself, as without privileges.
                    if u32_at(message, 8) == Some(asked) || errno != 0 {
                        return Ok(errno);
                    }
                }
                rest = rest.get(aligned(message_length)..).unwrap_or_default();
            }
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "nftables: a malformed answer")
}

#[cfg(test)]
mod tests;
