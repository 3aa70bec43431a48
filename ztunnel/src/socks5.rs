//! SOCKS 5 (RFC 1928) for a pod's own processes, on loopback of its namespace, where the settings ask for it.
//!
//! Who can connect there is in the pod, so that the connection is the pod's like any that is captured. It takes the same
//! way, and the client is told what became of it: success is said once the destination is connected.
//!
//! Deliberately not here: authentication, and commands other than CONNECT.

pub mod message;
mod search;

use crate::context::Context;
use crate::dns;
use crate::failure::Failure;
use crate::outbound::Outbound;
use crate::pods::Pod;
use ::dns::Server;
use mesh::route::Refusal;
use message::{Destination, Malformed, Outcome, Request, Step};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use sys::socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

/// The port in the pod, on 127.0.0.1.
pub(crate) const SOCKS5_PORT: u16 = 15080;

/// Time that a client has to say where it wants to go.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// For how long, and how many bytes, a client that is refused is heard out.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);
const MAX_LAST_WORDS: u64 = 64 << 10;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 3;

/// Serves one pod's clients.
pub(crate) struct Socks5 {
    context: Arc<Context>,
    pod: Arc<Pod>,
    outbound: Arc<Outbound>,
    names: Server,
}

/// Listens in the pod, if the settings ask for it.
pub(crate) fn bind(context: &Context, pod: &Pod, backlog: i32) -> io::Result<Option<TcpListener>> {
    if !context.config.socks5 {
        return Ok(None);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, SOCKS5_PORT));
    let options = context
        .config
        .sockets
        .listen(false, context.config.port_reuse, backlog);
    let listener = socket::listen(&pod.network, address, &options).map_err(|error| {
        let kind = error.kind();
        io::Error::new(
            kind,
            format!("cannot listen on {address} in its namespace: {error}"),
        )
    })?;
    Ok(Some(listener))
}

impl Socks5 {
    /// Serves `pod`, whose connections go through `outbound`.
    pub(crate) fn new(context: &Arc<Context>, pod: &Arc<Pod>, outbound: &Arc<Outbound>) -> Self {
        Self {
            context: context.clone(),
            pod: pod.clone(),
            outbound: outbound.clone(),
            names: dns::server(context, pod),
        }
    }

    /// Serves one client to its end.
    pub(crate) async fn serve(&self, mut stream: TcpStream) {
        let Ok(source) = socket::peer_address(&stream) else {
            // It has gone before anything was known of it.
            return;
        };
        let asked = tokio::time::timeout(REQUEST_DEADLINE, ask(&mut stream)).await;
        let destination = match asked {
            Ok(Ok(destination)) => destination,
            Ok(Err(error)) => {
                debug!(pod = self.pod.full_name(), %source, %error, "a SOCKS client asks for nothing that is served");
                return;
            }
            Err(_) => {
                debug!(pod = self.pod.full_name(), %source, "a SOCKS client did not say in time where it wants to go");
                return;
            }
        };
        let addresses = match self.addresses(&destination).await {
            Ok(addresses) => addresses,
            Err(error) => {
                debug!(pod = self.pod.full_name(), %source, ?destination, error, "the destination of a SOCKS client is not found");
                return refuse(stream, Outcome::HostUnreachable).await;
            }
        };
        let mut outcome = Outcome::HostUnreachable;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            if is_own_port(address) {
                return refuse(stream, Outcome::Forbidden).await;
            }
            match self.outbound.reach(source, address).await {
                Ok(way) => return way.carry(stream, &message::reply(Outcome::Connected)).await,
                Err(unreached) => {
                    outcome = outcome_of(unreached.failure());
                    let final_answer = !unreached.failure().may_try_elsewhere();
                    unreached.close();
                    if final_answer {
                        break;
                    }
                }
            }
        }
        refuse(stream, outcome).await;
    }

    /// The addresses that a destination stands for, in the order in which they are tried.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<SocketAddr>, String> {
        match destination {
            Destination::Address(address) => Ok(vec![*address]),
            Destination::Name(name, port) => {
                let found = self.look_up(name).await?;
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
            }
        }
    }

    /// As the pod's own resolver would: by the search path of Kubernetes, for names of the mesh.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let names = dns::names(&self.context, &self.pod);
        let domain = &self.context.config.cluster_domain;
        for candidate in search::candidates(name, self.pod.identity.namespace(), domain) {
            if let Some(found) = dns::mesh_addresses(&names, &candidate).await {
                return Ok(found);
            }
        }
        let found = self.names.addresses(name).await;
        found.map_err(|error| error.to_string())
    }
}

/// Why a client did not say where it wants to go.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it offers no method without authentication")]
    NoMethod,
    #[error("it wants command {0}; only CONNECT (1) is served")]
    Command(u8),
    #[error("it names an address of the unknown kind {0}")]
    AddressKind(u8),
    #[error("its connection ended: {0}")]
    Io(#[from] io::Error),
}

/// Hears out what the client wants. What it is refused for, it has been told.
async fn ask(stream: &mut TcpStream) -> Result<Destination, Unasked> {
    if !read(stream, message::methods).await? {
        end_with(stream, &message::NO_ACCEPTABLE_METHOD).await?;
        return Err(Unasked::NoMethod);
    }
    stream.write_all(&message::ACCEPTED).await?;
    let (error, outcome) = match read(stream, message::request).await {
        Ok(Request::Connect(destination)) => return Ok(destination),
        Ok(Request::OtherCommand(command)) => (Unasked::Command(command), Outcome::CommandNotSupported),
        Ok(Request::OtherAddress(kind)) => (Unasked::AddressKind(kind), Outcome::AddressNotSupported),
        Err(error @ Unasked::Malformed(_)) => (error, Outcome::Failed),
        Err(error) => return Err(error),
    };
    end_with(stream, &message::reply(outcome)).await?;
    Err(error)
}

/// Says the last thing to a client, and hears it out for a moment: to close while something that it has sent is unread
/// resets the connection, which may be all that the client notices.
async fn end_with(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(MAX_LAST_WORDS);
    let mut nowhere = tokio::io::sink();
    let heard = tokio::io::copy(&mut rest, &mut nowhere);
    // Whoever goes on or holds on is cut off.
    let _ = tokio::time::timeout(LAST_WORDS_DEADLINE, heard).await;
    Ok(())
}

/// Reads one message, and not a byte of what follows it.
async fn read<T>(
    stream: &mut TcpStream,
    parse: impl Fn(&[u8]) -> Result<Step<T>, Malformed>,
) -> Result<T, Unasked> {
    // A message is no longer than 262 bytes.
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes)? {
            Step::Done(message) => return Ok(message),
            Step::More(more) => {
                let had = bytes.len();
                bytes.resize(had + more, 0);
                stream.read_exact(&mut bytes[had..]).await?;
            }
        }
    }
}

/// Tells the client and ends the connection.
async fn refuse(mut stream: TcpStream, outcome: Outcome) {
    let reply = message::reply(outcome);
    // Who does not listen need not hear it.
    let _ = tokio::time::timeout(REQUEST_DEADLINE, end_with(&mut stream, &reply)).await;
}

/// A client that wants to be connected to this very listener would go round in circles.
fn is_own_port(address: SocketAddr) -> bool {
    address.ip().is_loopback() && address.port() == SOCKS5_PORT
}

/// What a client can be told of a failure.
fn outcome_of(failure: &Failure) -> Outcome {
    use io::ErrorKind;
    match failure {
        Failure::Shared(failure) => outcome_of(failure),
        Failure::Behind { failure, .. } => outcome_of(failure),
        Failure::Denied(_)
        | Failure::PeerStatus { status: 401, .. }
        | Failure::Route(Refusal::SelfCall { .. } | Refusal::NotInRegistry { .. }) => Outcome::Forbidden,
        Failure::Connect { error, .. } => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::NetworkUnreachable => Outcome::NetworkUnreachable,
            _ => Outcome::HostUnreachable,
        },
        Failure::Route(_)
        | Failure::LookUp(_)
        | Failure::TooLate { .. }
        | Failure::PeerStatus { status: 503, .. } => Outcome::HostUnreachable,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests;
