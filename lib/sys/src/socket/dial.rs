//! Calling a server by its name, from the namespace that the thread is in.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Keepalive, set_keepalive};

/// Looks up a name, or an address without brackets, and connects to the first of its addresses that answers. Small
/// writes are sent at once (TCP_NODELAY). Needs a tokio runtime.
///
/// # Errors
/// The system's own; [`io::ErrorKind::TimedOut`] where looking up and connecting take longer than `timeout` together.
pub async fn dial(host: &str, port: u16, timeout: Duration, keepalive: Keepalive) -> io::Result<TcpStream> {
    let connecting = async {
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        set_keepalive(&SockRef::from(&socket), Some(keepalive))?;
        Ok(socket)
    };
    let connected = tokio::time::timeout(timeout, connecting).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_idle_connection_is_probed_as_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let keepalive = Keepalive {
            time: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            retries: 3,
            user_timeout: false,
        };
        let patience = Duration::from_secs(30);
        let socket = dial("localhost", port, patience, keepalive).await.unwrap();
        let options = SockRef::from(&socket);
        assert!(options.keepalive().unwrap() && socket.nodelay().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), keepalive.time);
        assert_eq!(options.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(options.tcp_keepalive_retries().unwrap(), 3);
        drop(listener);
        let refused = dial("127.0.0.1", port, patience, keepalive).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
