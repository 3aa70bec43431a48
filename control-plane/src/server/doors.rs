//! Where the program is asked: opened before anything else, so that a port that is taken is said at once.

use std::net::SocketAddr;

use tokio::net::{TcpListener, UnixListener};

use super::Error;
use crate::config::Config;
use crate::debug;

/// Listeners whose callers wait until somebody takes them.
pub(super) struct Doors {
    /// xDS and the CA.
    pub(super) clients: Door,
    /// What a cluster asks over HTTP.
    pub(super) monitoring: Door,
    /// What the program says to its owner.
    pub(super) debug: UnixListener,
}

pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Doors {
    pub(super) fn open(config: &Config) -> Result<Doors, Error> {
        Ok(Doors {
            clients: Door::open(config.listen)?,
            debug: debug::listen(&config.debug_socket)?,
            monitoring: Door::open(config.monitoring_listen)?,
        })
    }
}

impl Door {
    fn open(address: SocketAddr) -> Result<Door, Error> {
        let failed = |source| Error::Listen { address, source };
        let listener = sys::socket::listen_here(address, false).map_err(failed)?;
        Ok(Door {
            address: listener.local_addr().map_err(failed)?,
            listener,
        })
    }
}
