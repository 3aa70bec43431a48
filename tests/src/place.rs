use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use sys::Namespace;

/// Something that has a network namespace.
pub trait Place {
    /// Its namespace.
    fn network(&self) -> &Namespace;

    /// Runs `f` inside; what it opens stays inside.
    fn inside<R>(&self, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.network().enter(f).map_err(io::Error::other)?
    }

    /// Opens a connection from here: no delay, and at most 30 s for a read or a write.
    fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        self.connect_within(address, Duration::from_secs(10))
    }

    /// As [`Place::connect`], with another limit.
    fn connect_within(&self, address: impl Into<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
        let address = address.into();
        let stream = self.inside(|| TcpStream::connect_timeout(&address, limit))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Listens on every IPv4 address here. `accept` gives up after 30 s, and what it accepts has the same limit for
    /// reads and writes.
    fn listen(&self, port: u16) -> TcpListener {
        self.listen_on((Ipv4Addr::UNSPECIFIED, port).into(), 1024)
    }

    /// As [`Place::listen`], on one address and with a backlog.
    fn listen_on(&self, address: SocketAddr, backlog: i32) -> TcpListener {
        let open = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            // Also the limit of `accept`; accepted sockets inherit it.
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.listen(backlog)?;
            Ok(socket.into())
        };
        self.inside(open)
            .unwrap_or_else(|error| panic!("listening on {address}: {error}"))
    }
}

/// How long a read, a write or an accept may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Place for Namespace {
    fn network(&self) -> &Namespace {
        self
    }
}

impl<P: Place> Place for &P {
    fn network(&self) -> &Namespace {
        (*self).network()
    }
}
