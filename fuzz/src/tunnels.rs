//! HTTP/2 as a peer may speak it, right or wrong.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hbone::client::ConnectRequest;
use hbone::{Header, Settings};

use tokio::io::{AsyncRead, ReadBuf, join, sink};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime of one thread");
}

/// The longest that one input may keep an engine busy: far more than it takes, and far less than it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs to the end, which comes with the end of the input.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| {
        runtime
            .block_on(async { tokio::time::timeout(LIMIT, work).await })
            .expect("input has ended, and the engine goes on")
    })
}

/// A peer that sends these bytes and, a few turns later, closes: an engine that sees the end together with the bytes
/// may drop what it has read.
pub(crate) struct Sent<'i> {
    now: &'i [u8],
    later: &'i [u8],
    pause: usize,
}

/// Turns of the engine between one piece and the next, and before the end.
const PAUSE: usize = 16;

impl<'i> Sent<'i> {
    pub(crate) fn new(input: &'i [u8]) -> Self {
        Self::in_two(input, input.len())
    }

    /// The first bytes, a pause, and the others.
    fn in_two(input: &'i [u8], first: usize) -> Self {
        let (now, later) = input.split_at(input.len().min(first));
        Self {
            now,
            later,
            pause: PAUSE,
        }
    }
}

impl AsyncRead for Sent<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.now.is_empty() && self.pause > 0 {
            self.pause -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.now.is_empty() && !self.later.is_empty() {
            self.now = std::mem::take(&mut self.later);
            self.pause = PAUSE;
        }
        let (now, rest) = self.now.split_at(self.now.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.now = rest;
        Poll::Ready(Ok(()))
    }
}

/// Bytes of a client, from the preface on.
pub(crate) fn server(input: &[u8]) -> bool {
    run(async {
        let Ok(mut server) =
            hbone::server::handshake(join(Sent::new(input), sink()), Settings::server()).await
        else {
            return false;
        };
        let mut tunnels = Vec::new();
        while let Some(Ok(incoming)) = server.accept().await {
            assert!(incoming.authority().len() <= hbone::server::MAX_AUTHORITY);
            for name in ["baggage", "forwarded", "traceparent"] {
                incoming.headers(name).for_each(drop);
            }
            if tunnels.len() % 3 == 2 {
                let _ = incoming.refuse(503, [] as [Header; 0]);
            } else if let Ok(tunnel) = incoming.accept([] as [Header; 0]) {
                tunnels.push(tunnel);
            }
        }
        !tunnels.is_empty()
    })
}

/// Bytes of a server, to a client that asks for one tunnel: its settings, which are sent at once, and what follows.
pub(crate) fn client(input: &[u8]) -> bool {
    const EMPTY_SETTINGS_AND_ACKNOWLEDGEMENT: usize = 18;
    run(async {
        let peer = Sent::in_two(input, EMPTY_SETTINGS_AND_ACKNOWLEDGEMENT);
        let handshake = hbone::client::handshake(join(peer, sink()), Settings::client());
        let Ok((client, driver)) = handshake.await else {
            return false;
        };
        let request = ConnectRequest {
            authority: "10.0.0.1:80".into(),
            headers: Vec::new(),
        };
        let (answer, _end) = futures_util::future::join(client.connect(request), driver).await;
        answer.is_ok()
    })
}
