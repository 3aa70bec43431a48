//! The other end of a tunnel, which answers as a test wants.

use super::TestIssuer;
use crate::headers;
use hbone::server::Incoming;
use hbone::{Settings, Tunnel};
use mesh::Identity;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tls::ConfigCache;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a CONNECT gets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200, and every byte sent back.
    Echo,
    /// 200, and a reset after the first bytes.
    ResetAfterFirst,
    /// Another status.
    Status(u16),
    /// 200, and a TCP connection to here, as an east-west gateway does.
    Forward(SocketAddr),
}

/// A CONNECT that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) authority: String,
    pub(crate) forwarded: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) caller: Identity,
}

/// An HBONE server.
pub(crate) struct Peer {
    seen: Arc<Mutex<Vec<Seen>>>,
    tunnels: Arc<AtomicUsize>,
}

impl Peer {
    pub(crate) async fn start(
        issuer: &TestIssuer,
        identity: &Identity,
        address: SocketAddr,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let config = ConfigCache::new().server(&issuer.certificate(identity));
        let peer = Self {
            seen: Arc::default(),
            tunnels: Arc::default(),
        };
        let (seen, tunnels, answer) = (peer.seen.clone(), peer.tunnels.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (config, seen, tunnels, answer) =
                    (config.clone(), seen.clone(), tunnels.clone(), answer.clone());
                tokio::spawn(async move {
                    // A client that refuses us is what some tests are about.
                    let Ok((stream, caller)) = tls::accept(stream, &config).await else {
                        return;
                    };
                    let Ok(mut server) = hbone::server::handshake(stream, Settings::server()).await else {
                        return;
                    };
                    tunnels.fetch_add(1, Ordering::SeqCst);
                    while let Some(Ok(incoming)) = server.accept().await {
                        let header = |name| incoming.header(name).map(ToOwned::to_owned);
                        let request = Seen {
                            authority: incoming.authority().to_owned(),
                            forwarded: header(headers::FORWARDED),
                            network: header(headers::FORWARDED_NETWORK),
                            caller: caller.identity.clone(),
                        };
                        seen.lock().unwrap().push(request.clone());
                        tokio::spawn(serve(incoming, answer(&request)));
                    }
                });
            }
        });
        peer
    }

    /// The CONNECTs so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The authorities asked for so far.
    pub(crate) fn authorities(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.authority).collect()
    }

    /// The connections so far.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::SeqCst)
    }
}

async fn serve(incoming: Incoming, answer: Answer) {
    match answer {
        Answer::Status(status) => incoming.refuse(status, []).unwrap(),
        Answer::Echo => echo(incoming.accept([]).unwrap()).await,
        Answer::ResetAfterFirst => {
            let mut tunnel = incoming.accept([]).unwrap();
            tunnel.read_u8().await.unwrap();
            // A tunnel that is dropped in the middle is reset.
            drop(tunnel);
        }
        Answer::Forward(to) => {
            let mut out = TcpStream::connect(to).await.unwrap();
            let mut tunnel = incoming.accept([]).unwrap();
            // However it ends, both sides end.
            let _ = tokio::io::copy_bidirectional(&mut tunnel, &mut out).await;
        }
    }
}

async fn echo(tunnel: Tunnel) {
    let (mut from, mut to) = tokio::io::split(tunnel);
    // A client that goes away ends it.
    if tokio::io::copy(&mut from, &mut to).await.is_ok() {
        let _ = to.shutdown().await;
    }
}
