use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;
use crate::wait::within;

/// No single exchange may take longer.
const DEADLINE: Duration = Duration::from_secs(15);
const CHUNK: usize = 64 * 1024;

/// A server application. Ends with the value.
#[derive(Debug)]
pub struct App {
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl App {
    /// Sends everything back, and ends its direction when the caller has ended its own.
    pub fn echo(place: &Namespace, at: SocketAddr) -> Outcome<App> {
        App::serve(place, at, async |mut socket| {
            let (mut from, mut to) = socket.split();
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        })
    }

    /// Serves every connection by this.
    pub fn serve<F>(
        place: &Namespace,
        at: SocketAddr,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Outcome<App>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = place.listen(at).doing(format!("listening on {at}"))?;
        let address = listener.local_addr()?;
        let peers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let seen = peers.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
                tokio::spawn(serve(socket));
            }
        });
        Ok(App { peers, task, address })
    }

    /// Who has called, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends `text` and expects it back.
pub async fn echoes(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> Outcome {
    let exchange = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        io::Result::Ok(back)
    };
    let back = within("an echo", DEADLINE, exchange).await?.doing("an echo")?;
    if back == text.as_bytes() {
        return Ok(());
    }
    Err(Failure::new("what came back is not what was sent"))
}

/// Reads to the end, at most for a while.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    within(
        "the end of a connection",
        DEADLINE,
        stream.read_to_end(&mut bytes),
    )
    .await??;
    Ok(bytes)
}

/// How a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order, after these bytes.
    Closed(Vec<u8>),
    /// Reset, or otherwise in error.
    Broken,
}

/// Waits for the end of a connection, whichever it is.
pub async fn end(stream: &mut (impl AsyncRead + Unpin)) -> Outcome<End> {
    let mut bytes = Vec::new();
    let read = within(
        "the end of a connection",
        DEADLINE,
        stream.read_to_end(&mut bytes),
    )
    .await?;
    Ok(match read {
        Ok(_) => End::Closed(bytes),
        Err(_) => End::Broken,
    })
}

/// Calls and expects to get nothing: no connection, or one that ends, in whatever way, without a byte.
pub async fn gets_nothing(from: &Namespace, to: SocketAddr) -> Outcome {
    // Where the reset comes at once, the caller may see it while it connects.
    let Ok(mut call) = from.connect(to).await else {
        return Ok(());
    };
    match end(&mut call).await? {
        End::Broken => Ok(()),
        End::Closed(bytes) if bytes.is_empty() => Ok(()),
        End::Closed(bytes) => Err(Failure::new(format!("the caller of {to} got {bytes:?}"))),
    }
}

/// Sends `length` bytes that depend on the seed and their place, in pieces of all sizes, ends that direction, and expects
/// every one of them back in order.
pub async fn exchange_pattern<S>(stream: S, seed: u64, length: usize) -> Outcome
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        let mut chunk = vec![0; CHUNK];
        while sent < length {
            let size = CHUNK.min(length - sent);
            pattern(seed, sent, &mut chunk[..size]);
            to.write_all(&chunk[..size]).await?;
            sent += size;
        }
        to.shutdown().await?;
        io::Result::Ok(to)
    });
    let mut received = 0;
    let mut chunk = vec![0; CHUNK];
    let mut expected = vec![0; CHUNK];
    loop {
        let size = within(
            "the next bytes of a large exchange",
            DEADLINE,
            from.read(&mut chunk),
        )
        .await?
        .doing(format!("after {received} of {length} bytes"))?;
        if size == 0 {
            break;
        }
        pattern(seed, received, &mut expected[..size]);
        if chunk[..size] != expected[..size] {
            return Err(Failure::new(format!(
                "bytes differ after {received} (seed {seed})"
            )));
        }
        received += size;
    }
    sending.await??;
    if received == length {
        return Ok(());
    }
    Err(Failure::new(format!("{received} bytes came back of {length}")))
}

/// The bytes at `offset` of the pattern (splitmix64 of the place).
pub fn pattern(seed: u64, offset: usize, bytes: &mut [u8]) {
    for (place, byte) in bytes.iter_mut().enumerate() {
        let at = offset + place;
        let mut word = seed.wrapping_add((at as u64 / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *byte = (word >> (8 * (at % 8))) as u8;
    }
}
