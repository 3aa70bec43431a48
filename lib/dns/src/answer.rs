//! The pure part: which queries are answered here, and with what.

use std::net::IpAddr;
use std::time::Duration;

/// How long a client may keep an answer.
pub const ANSWER_TTL: Duration = Duration::from_secs(30);

/// Which names are known, and their addresses.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a name, both families, in the order to be given out.
    ///
    /// `name` is lower case and without a trailing dot. `None`: the name is not ours. `Some` of nothing: it exists
    /// and has no address.
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// Whether a name that [`Resolver::lookup`] does not know certainly does not exist, because it lies in a zone
    /// that is served here alone. Otherwise the query is forwarded.
    fn zone_authoritative(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// How a query arrived. It bounds the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram: the answer is cut to what the client says it can take.
    Udp,
    /// A stream: up to 65535 bytes.
    Tcp,
}

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Ask the servers of resolv.conf, with the bytes as they came.
    Forward,
    /// Not a query: drop it in silence, since an answer could go round in circles.
    Refuse,
}

/// Decides about one query. Never panics, whatever the bytes.
pub fn answer(query: &[u8], resolver: &dyn Resolver, transport: Transport) -> Reply {
    let _ = (query, resolver, transport);
    Reply::Forward
}
