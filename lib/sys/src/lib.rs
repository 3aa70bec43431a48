//! The operating system: network namespaces, links and routes, sockets with the options a transparent proxy needs,
//! descriptor passing, socket diagnosis, processes in namespaces, and what allocators say and keep.
//!
//! What this crate deliberately is not: it holds no policy. It does not know pods, meshes, ports or marks; who calls it
//! says which namespace, which mark, which address. It is the only crate with `unsafe`, and every such block says why
//! it is sound.
//!
//! Everything here is Linux only. What needs privileges (most of it) returns the kernel's own error when they lack.

#![allow(unsafe_code)]

pub mod conntrack;
pub mod descriptors;
pub mod diag;
#[cfg(feature = "heap")]
pub mod heap;
pub mod link;
pub mod memory;
mod namespace;
mod netlink;
pub mod nftables;
pub mod process;
pub mod sampling;
pub mod seqpacket;
pub mod socket;
#[cfg(test)]
mod test_support;
pub mod tun;

pub use namespace::{Namespace, NamespaceError, NamespaceId, share_mounts_below};
