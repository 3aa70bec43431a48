//! TCP and UDP sockets inside a chosen network namespace; and [`dial`], which calls a server by its name.
//!
//! A socket belongs to the namespace its thread was in when it was made, for good. So each function here enters the
//! namespace only to make the socket; binding, connecting and everything after happens outside.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsFd,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::Namespace;

mod dial;

pub use dial::dial;

/// Probes of idle connections, so that a dead peer is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds.
    pub time: Duration,
    /// Time between probes; whole seconds.
    pub interval: Duration,
    /// Probes without an answer before the connection counts as dead.
    pub retries: u32,
    /// Whether data that stays unacknowledged ends the connection after the same time (TCP_USER_TIMEOUT).
    pub user_timeout: bool,
}

/// Istio's: a dead peer is noticed after half an hour.
impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(180),
            interval: Duration::from_secs(180),
            retries: 9,
            user_timeout: false,
        }
    }
}

/// How to listen. Accepted connections inherit mark, keepalive and NODELAY from the listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// SO_MARK, which needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// IP_TRANSPARENT: accept connections to addresses which this namespace does not hold.
    pub transparent: bool,
    /// SO_REUSEPORT: several processes may listen on the same port, as during an upgrade.
    pub reuse_port: bool,
    /// Probes of idle connections; `None` for none.
    pub keepalive: Option<Keepalive>,
    /// Connections waiting to be accepted; the kernel caps it at net.core.somaxconn.
    pub backlog: i32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            mark: None,
            transparent: false,
            reuse_port: false,
            keepalive: Some(Keepalive::default()),
            backlog: 1024,
        }
    }
}

/// How to connect.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions {
    /// SO_MARK, which needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// The source address to show to the peer, which this namespace need not hold (IP_TRANSPARENT and IP_FREEBIND).
    /// Port 0 lets the kernel choose a port that is free towards this destination.
    pub source: Option<SocketAddr>,
    /// Probes of the idle connection; `None` for none.
    pub keepalive: Option<Keepalive>,
    /// Give up after this long with [`io::ErrorKind::TimedOut`]; `None` leaves it to the kernel (about two minutes).
    pub timeout: Option<Duration>,
}

/// Listens for TCP connections in the namespace. `[::]` accepts IPv4 too, and becomes `0.0.0.0` on a kernel without
/// IPv6. Needs a tokio runtime.
pub fn listen(
    namespace: &Namespace,
    address: SocketAddr,
    options: &ListenOptions,
) -> io::Result<TcpListener> {
    let socket = with_or_without_ipv6(address, |address| listening_socket(namespace, address, options))?;
    TcpListener::from_std(socket.into())
}

/// Listens for TCP connections where this thread is, for servers that are called directly and need no privilege. As with
/// [`listen`], `[::]` accepts IPv4 too, whatever `net.ipv6.bindv6only` says, and becomes `0.0.0.0` on a kernel without
/// IPv6 (`ipv6.disable=1`). With `reuse_port`, other processes may listen on the same port. Needs a tokio runtime.
pub fn listen_here(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = with_or_without_ipv6(address, |address| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&address.into())?;
        socket.listen(ListenOptions::default().backlog)?;
        Ok(socket)
    })?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Connects from inside the namespace.
pub async fn connect(
    namespace: &Namespace,
    options: &ConnectOptions,
    destination: SocketAddr,
) -> io::Result<TcpStream> {
    let destination = normalise(destination);
    let socket = connecting_socket(namespace, options, destination)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(destination);
    match options.timeout {
        None => connecting.await,
        Some(limit) => tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer from {destination} within {limit:?}"),
            ))
        }),
    }
}

/// Binds a UDP socket in the namespace. Needs a tokio runtime.
pub fn udp(namespace: &Namespace, address: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    bind_udp(namespace, address, mark, false)
}

/// As [`udp`], on a port that several processes may have (SO_REUSEPORT), as during an upgrade.
pub fn shared_udp(namespace: &Namespace, address: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    bind_udp(namespace, address, mark, true)
}

fn bind_udp(
    namespace: &Namespace,
    address: SocketAddr,
    mark: Option<u32>,
    reuse_port: bool,
) -> io::Result<UdpSocket> {
    let socket = make(
        namespace,
        Domain::for_address(address),
        Type::DGRAM,
        Protocol::UDP,
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(reuse_port)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Where a redirected connection was going before netfilter changed its destination; for a connection that was not
/// redirected, the local address.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = local_address(stream)?;
    let socket = SockRef::from(stream);
    // The family of the connection decides, not the socket's: asking a v6 connection for its v4 destination would look
    // up somebody else's conntrack entry.
    let answer = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    match answer {
        Ok(address) => Ok(address.as_socket().map_or(local, normalise)),
        // No conntrack entry, or no conntrack in this kernel or namespace.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(local)
        }
        Err(error) => Err(error),
    }
}

/// The peer's address; an IPv4 peer of a dual-stack listener is IPv4.
pub fn peer_address(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.peer_addr().map(normalise)
}

/// The local address; IPv4 on a dual-stack listener is IPv4.
pub fn local_address(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.local_addr().map(normalise)
}

/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes the IPv4 address it stands for.
pub fn normalise(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddrV4::new(v4, v6.port()).into(),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Makes closing the socket send a reset instead of a FIN (SO_LINGER with zero seconds). What was not sent is lost.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn listening_socket(
    namespace: &Namespace,
    address: SocketAddr,
    options: &ListenOptions,
) -> io::Result<Socket> {
    let socket = make(
        namespace,
        Domain::for_address(address),
        Type::STREAM,
        Protocol::TCP,
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.set_tcp_nodelay(true)?;
    set_keepalive(&socket, options.keepalive)?;
    if let Some(mark) = options.mark {
        socket
            .set_mark(mark)
            .map_err(|error| needing_net_admin("SO_MARK", error))?;
    }
    if options.transparent {
        set_transparent(&socket, address).map_err(|error| needing_net_admin("IP_TRANSPARENT", error))?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

fn connecting_socket(
    namespace: &Namespace,
    options: &ConnectOptions,
    destination: SocketAddr,
) -> io::Result<Socket> {
    let socket = make(
        namespace,
        Domain::for_address(destination),
        Type::STREAM,
        Protocol::TCP,
    )?;
    socket.set_tcp_nodelay(true)?;
    set_keepalive(&socket, options.keepalive)?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(source) = options.source.map(normalise) {
        set_transparent(&socket, destination)?;
        if source.is_ipv4() {
            socket.set_freebind_v4(true)?;
        } else {
            socket.set_freebind_v6(true)?;
        }
        // The port is chosen when the destination is known, so that many connections can share one source port.
        setsockopt(&socket.as_fd(), sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&source.into())?;
    }
    Ok(socket)
}

fn make(namespace: &Namespace, domain: Domain, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = namespace.enter(|| Socket::new(domain, kind, Some(protocol)))??;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_ip_transparent_v4(true)
    } else {
        socket.set_ip_transparent_v6(true)
    }
}

/// Says what to do about a refusal.
fn needing_net_admin(option: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            format!("{option}: {error} (CAP_NET_ADMIN is needed)"),
        ),
        _ => error,
    }
}

fn set_keepalive(socket: &Socket, keepalive: Option<Keepalive>) -> io::Result<()> {
    let Some(keepalive) = keepalive else {
        return Ok(());
    };
    let probes = TcpKeepalive::new()
        .with_time(keepalive.time)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.retries);
    socket.set_tcp_keepalive(&probes)?;
    if keepalive.user_timeout {
        let timeout = keepalive.time + keepalive.interval * keepalive.retries;
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Ok(())
}

/// Binds `address`, or where that is `[::]` and the kernel has no IPv6, `0.0.0.0`.
fn with_or_without_ipv6<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        Err(error) if address.ip() == IpAddr::from([0u16; 8]) && is_without_ipv6(&error) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests;
