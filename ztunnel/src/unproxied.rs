//! Connections that reached an application without passing through this proxy: those older than enrolment.
//!
//! Redirection takes new connections only, so a plaintext connection that was open before goes on directly.
//! Where policy now refuses callers without identity it has to end. The kernel is asked for the sockets of the
//! pod; those that are accepted connections and that no socket of ours stands behind are judged like any other
//! plaintext connection, and destroyed when denied.

mod destroy;

pub(crate) use destroy::{Ended, end};

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use sys::diag::{SocketInfo, State};

/// What is looked at of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    local: SocketAddr,
    remote: SocketAddr,
    listening: bool,
    ours: bool,
}

impl View {
    /// What `socket` looks like to a proxy whose own sockets carry `mark`.
    pub(crate) fn of(socket: &SocketInfo, mark: u32) -> Self {
        Self {
            local: socket.local,
            remote: socket.remote,
            listening: socket.state == State::Listen,
            ours: socket.mark == mark,
        }
    }
}

/// Positions of the accepted connections among `sockets` that did not come through the proxy.
///
/// A connection was accepted, not opened, when its local port is listened on or lies outside the
/// `ephemeral` range. The pod's talk with itself never leaves it and is none of our business.
pub(crate) fn accepted_directly(sockets: &[View], ephemeral: &RangeInclusive<u16>) -> Vec<usize> {
    let theirs = || sockets.iter().filter(|socket| !socket.ours);
    let listening: HashSet<u16> = theirs()
        .filter(|socket| socket.listening)
        .map(|socket| socket.local.port())
        .collect();
    let own_addresses: HashSet<IpAddr> = theirs()
        .filter(|socket| !socket.listening)
        .map(|socket| socket.local.ip())
        .collect();
    // The other end of a connection that we made to the application lives in the same namespace.
    let made_by_us: HashSet<(SocketAddr, SocketAddr)> = sockets
        .iter()
        .filter(|socket| socket.ours)
        .map(|socket| (socket.remote, socket.local))
        .collect();
    let accepted = |port: u16| listening.contains(&port) || !ephemeral.contains(&port);
    let wanted = |socket: &View| {
        !socket.listening
            && !socket.ours
            && accepted(socket.local.port())
            && !socket.local.ip().is_loopback()
            && !own_addresses.contains(&socket.remote.ip())
            && !made_by_us.contains(&(socket.local, socket.remote))
    };
    sockets
        .iter()
        .enumerate()
        .filter(|(_, socket)| wanted(socket))
        .map(|(position, _)| position)
        .collect()
}

/// Positions in `second` of what [`accepted_directly`] finds there and found in `first` too.
///
/// The kernel lists sockets one after another. Of a connection that comes up meanwhile it may tell the application's
/// end and not ours, so one look alone would end connections that we have just made. What is older than enrolment is
/// there at a second look too, and of what came up during the first one both ends are.
pub(crate) fn accepted_directly_for_sure(
    first: &[View],
    second: &[View],
    ephemeral: &RangeInclusive<u16>,
) -> Vec<usize> {
    let seen: HashSet<(SocketAddr, SocketAddr)> = accepted_directly(first, ephemeral)
        .into_iter()
        .map(|position| (first[position].local, first[position].remote))
        .collect();
    let mut found = accepted_directly(second, ephemeral);
    found.retain(|position| seen.contains(&(second[*position].local, second[*position].remote)));
    found
}

#[cfg(test)]
mod tests;
