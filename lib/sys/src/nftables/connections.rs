//! Dropping single TCP connections, for kernels that cannot destroy sockets.
//!
//! ```text
//! table ip ztunnel {
//!   set dropped { typeof ip saddr . tcp sport . ip daddr . tcp dport }        # as packets that arrive have them
//!   chain input  { type filter hook input  priority 0; ip saddr . tcp sport . ip daddr . tcp dport @dropped drop }
//!   chain output { type filter hook output priority 0; ip daddr . tcp dport . ip saddr . tcp sport @dropped drop }
//! }
//! ```
//!
//! However many connections are dropped, there are two rules, and naming one again changes nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{Attributes, Change, TableFamily, Transaction};
use crate::Namespace;

/// Drops every packet of the connection between `local` and `remote` in the namespace, in both directions, from now on. Says
/// whether that is new. What is dropped stays so until [`forget_dropped`].
pub fn drop_connection(namespace: &Namespace, local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
    let (local, remote) = (canonical(local), canonical(remote));
    let family = match local.ip() {
        IpAddr::V4(_) => TableFamily::V4,
        IpAddr::V6(_) => TableFamily::V6,
    };
    let element = || Change {
        kind: NFT_MSG_NEWSETELEM,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        attributes: element(local, remote),
    };
    let mut attempts = 0;
    loop {
        match Transaction::open(namespace, family)?.send([element()])? {
            0 => return Ok(true),
            libc::EEXIST => return Ok(false),
            libc::ENOENT if attempts < ATTEMPTS => attempts += 1,
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        // Somebody else may make it at the same time.
        match Transaction::open(namespace, family)?.send(table(family))? {
            0 | libc::EEXIST => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Takes back all that [`drop_connection`] has done in the namespace.
pub fn forget_dropped(namespace: &Namespace) -> io::Result<()> {
    for family in [TableFamily::V4, TableFamily::V6] {
        let table = Change {
            kind: super::NFT_MSG_DELTABLE,
            flags: 0,
            attributes: Attributes::default().text(super::NFTA_TABLE_NAME, TABLE),
        };
        match Transaction::open(namespace, family)?.send([table])? {
            // A kernel without nftables has no tables either.
            0 | libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL | libc::EAFNOSUPPORT => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    Ok(())
}

const ATTEMPTS: usize = 2;
const TABLE: &str = "ztunnel";
const SET: &str = "dropped";

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The table with its set, its two chains and their rules; nothing where there is such a table.
fn table(family: TableFamily) -> Vec<Change> {
    let parts = Parts::of(family);
    let created = |kind, attributes| Change {
        kind,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        attributes,
    };
    let mut changes = vec![
        created(
            NFT_MSG_NEWTABLE,
            Attributes::default().text(NFTA_TABLE_NAME, TABLE),
        ),
        created(
            NFT_MSG_NEWSET,
            Attributes::default()
                .text(NFTA_SET_TABLE, TABLE)
                .text(NFTA_SET_NAME, SET)
                .number(NFTA_SET_KEY_LEN, parts.key_length())
                .number(NFTA_SET_ID, 1),
        ),
    ];
    for (name, hook, from, to) in [
        ("input", NF_INET_LOCAL_IN, parts.source, parts.destination),
        ("output", NF_INET_LOCAL_OUT, parts.destination, parts.source),
    ] {
        let hook = Attributes::default()
            .number(NFTA_HOOK_HOOKNUM, hook)
            .number(NFTA_HOOK_PRIORITY, 0);
        let chain = Attributes::default()
            .text(NFTA_CHAIN_TABLE, TABLE)
            .text(NFTA_CHAIN_NAME, name)
            .nested(NFTA_CHAIN_HOOK, &hook)
            .text(NFTA_CHAIN_TYPE, "filter");
        changes.push(created(NFT_MSG_NEWCHAIN, chain));
        let rule = Attributes::default()
            .text(NFTA_RULE_TABLE, TABLE)
            .text(NFTA_RULE_CHAIN, name)
            .nested(NFTA_RULE_EXPRESSIONS, &parts.rule(from, to));
        changes.push(Change {
            kind: NFT_MSG_NEWRULE,
            flags: NLM_F_CREATE,
            attributes: rule,
        });
    }
    changes
}

fn element(local: SocketAddr, remote: SocketAddr) -> Attributes {
    let mut key = Vec::new();
    for end in [remote, local] {
        match end.ip() {
            IpAddr::V4(ip) => key.extend(ip.octets()),
            IpAddr::V6(ip) => key.extend(ip.octets()),
        }
        // Each part of a key fills registers of four bytes.
        key.extend(end.port().to_be_bytes());
        key.extend([0; 2]);
    }
    let value = Attributes::default().bytes(NFTA_DATA_VALUE, &key);
    let element = Attributes::default().nested(NFTA_SET_ELEM_KEY, &value);
    let elements = Attributes::default().nested(NFTA_LIST_ELEM, &element);
    Attributes::default()
        .text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .text(NFTA_SET_ELEM_LIST_SET, SET)
        .nested(NFTA_SET_ELEM_LIST_ELEMENTS, &elements)
}

/// Where addresses and ports are in packets.
struct Parts {
    source: End,
    destination: End,
    address_length: u32,
}

#[derive(Clone, Copy)]
struct End {
    /// Offset in the IP header (RFC 791 section 3.1, RFC 8200 section 3).
    address: u32,
    /// Offset in the TCP header (RFC 9293 section 3.1).
    port: u32,
}

impl Parts {
    fn of(family: TableFamily) -> Self {
        let (source, destination, address_length) = match family {
            TableFamily::V4 => (12, 16, 4),
            TableFamily::V6 => (8, 24, 16),
        };
        let end = |address, port| End { address, port };
        Self {
            source: end(source, 0),
            destination: end(destination, 2),
            address_length,
        }
    }

    fn key_length(&self) -> u32 {
        2 * (self.address_length + 4)
    }

    /// TCP, and its ends in this order are in the set: drop.
    fn rule(&self, first: End, second: End) -> Attributes {
        let meta = Attributes::default()
            .number(NFTA_META_DREG, NFT_REG32_00)
            .number(NFTA_META_KEY, NFT_META_L4PROTO);
        let tcp = Attributes::default().bytes(NFTA_DATA_VALUE, &[libc::IPPROTO_TCP as u8]);
        let is_tcp = Attributes::default()
            .number(NFTA_CMP_SREG, NFT_REG32_00)
            .number(NFTA_CMP_OP, NFT_CMP_EQ)
            .nested(NFTA_CMP_DATA, &tcp);
        let mut list = Attributes::default();
        list = expression(list, "meta", &meta);
        list = expression(list, "cmp", &is_tcp);
        let mut register = NFT_REG32_00;
        for end in [first, second] {
            for (base, offset, length) in [
                (NFT_PAYLOAD_NETWORK_HEADER, end.address, self.address_length),
                (NFT_PAYLOAD_TRANSPORT_HEADER, end.port, 2),
            ] {
                let load = Attributes::default()
                    .number(NFTA_PAYLOAD_DREG, register)
                    .number(NFTA_PAYLOAD_BASE, base)
                    .number(NFTA_PAYLOAD_OFFSET, offset)
                    .number(NFTA_PAYLOAD_LEN, length);
                list = expression(list, "payload", &load);
                register += length.div_ceil(4);
            }
        }
        let lookup = Attributes::default()
            .text(NFTA_LOOKUP_SET, SET)
            .number(NFTA_LOOKUP_SREG, NFT_REG32_00)
            .number(NFTA_LOOKUP_SET_ID, 1);
        list = expression(list, "lookup", &lookup);
        let code = Attributes::default().number(NFTA_VERDICT_CODE, NF_DROP);
        let verdict = Attributes::default().nested(NFTA_DATA_VERDICT, &code);
        let drop = Attributes::default()
            .number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
            .nested(NFTA_IMMEDIATE_DATA, &verdict);
        expression(list, "immediate", &drop)
    }
}

fn expression(list: Attributes, name: &str, data: &Attributes) -> Attributes {
    let one = Attributes::default()
        .text(NFTA_EXPR_NAME, name)
        .nested(NFTA_EXPR_DATA, data);
    list.nested(NFTA_LIST_ELEM, &one)
}

// linux/netlink.h
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

// linux/netfilter.h
const NF_DROP: u32 = 0;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_INET_LOCAL_OUT: u32 = 3;

// linux/netfilter/nf_tables.h
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_SET_ID: u16 = 4;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG32_00: u32 = 8;
const NFT_META_L4PROTO: u32 = 16;
const NFT_CMP_EQ: u32 = 0;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
