//! nftables over netlink (linux/netfilter/nf_tables.h), as far as this project needs it: removing tables that nobody uses
//! any more, and dropping single connections.
//!
//! `iptables` on nftables makes tables and built-in chains as needed and never removes them; as long as they are there,
//! the kernel tracks and translates connections for nobody.

mod attributes;
mod connections;

use std::io;

use nix::sys::socket::SockProtocol;

use crate::{
    Namespace,
    netlink::{
        HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkSocket, aligned, error_number, u16_at, u32_at,
    },
};
use attributes::Attributes;

pub use connections::{drop_connection, forget_dropped};

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
    let mut transaction = Transaction::open(namespace, family)?;
    for chain in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        let chain = Attributes::default()
            .text(NFTA_CHAIN_TABLE, table)
            .text(NFTA_CHAIN_NAME, chain);
        transaction.delete(NFT_MSG_DELCHAIN, chain)?;
    }
    transaction.delete(
        NFT_MSG_DELTABLE,
        Attributes::default().text(NFTA_TABLE_NAME, table),
    )
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

/// Changes of one family of tables. They are sent in batches, of which the kernel carries out all or nothing.
struct Transaction {
    socket: NetlinkSocket,
    sequence: u32,
    family: u8,
}

/// One change of a batch.
struct Change {
    kind: u16,
    flags: u16,
    attributes: Attributes,
}

impl Transaction {
    fn open(namespace: &Namespace, family: TableFamily) -> io::Result<Self> {
        Ok(Self {
            socket: NetlinkSocket::open(namespace, SockProtocol::NetlinkNetFilter)?,
            sequence: 0,
            family: match family {
                TableFamily::V4 => libc::NFPROTO_IPV4 as u8,
                TableFamily::V6 => libc::NFPROTO_IPV6 as u8,
            },
        })
    }

    /// Deletes one thing, in a batch of its own, so that one refusal spoils no other. Says whether it is gone; it stays when
    /// something is in it.
    fn delete(&mut self, kind: u16, attributes: Attributes) -> io::Result<bool> {
        let change = Change {
            kind,
            flags: NLM_F_NONREC,
            attributes,
        };
        match self.send([change])? {
            0 | libc::ENOENT => Ok(true),
            libc::EBUSY => Ok(false),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Sends a batch; 0 when it is carried out, else the first error number.
    fn send(&mut self, changes: impl IntoIterator<Item = Change>) -> io::Result<i32> {
        let subsystem = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let bounds = [0, 0, subsystem[0], subsystem[1]];
        let none = Attributes::default();
        let mut request = Vec::new();
        self.message(&mut request, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, bounds, &none);
        let mut last = 0;
        for change in changes {
            let kind = (NFNL_SUBSYS_NFTABLES << 8) | change.kind;
            let flags = NLM_F_REQUEST | NLM_F_ACK | change.flags;
            let of_family = [self.family, 0, 0, 0];
            last = self.message(&mut request, kind, flags, of_family, &change.attributes);
        }
        self.message(&mut request, NFNL_MSG_BATCH_END, NLM_F_REQUEST, bounds, &none);
        self.socket.send(&request)?;
        self.answer(last)
    }

    /// Appends a message and returns its sequence number.
    fn message(
        &mut self,
        to: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        nfgenmsg: [u8; 4],
        attributes: &Attributes,
    ) -> u32 {
        self.sequence += 1;
        let length = (HEADER + nfgenmsg.len() + attributes.as_bytes().len()) as u32;
        to.extend(length.to_ne_bytes());
        to.extend(kind.to_ne_bytes());
        to.extend(flags.to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        to.extend([0; 4]);
        to.extend(nfgenmsg);
        to.extend(attributes.as_bytes());
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
