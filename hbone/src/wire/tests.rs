use std::task::Waker;

use tokio::io::{AsyncReadExt, duplex};

use super::*;

/// Notes what is written, as many bytes at a time as are allowed.
#[derive(Default)]
struct Notes {
    writes: Vec<Vec<u8>>,
    allowed: usize,
}

impl AsyncRead for Notes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Notes {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let taken = buf.len().min(self.allowed);
        if taken == 0 {
            return Poll::Pending;
        }
        self.allowed -= taken;
        self.writes.push(buf[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn wire_of<IO>(io: IO) -> (Wire<IO>, Turn<IO>) {
    wire(io, Arc::new(Vitals::of_client()))
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(wire: &mut Wire<Notes>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    let outcome = Pin::new(&mut *wire).poll_write(&mut context(), bytes);
    assert!(Pin::new(wire).poll_flush(&mut context()).is_ready());
    outcome
}

fn written(turn: &Turn<Notes>) -> Vec<Vec<u8>> {
    std::mem::take(&mut lock(&turn.0).io.writes)
}

#[test]
fn the_frames_of_a_turn_go_out_in_one_write() {
    let (mut wire, turn) = wire_of(Notes {
        allowed: usize::MAX,
        ..Notes::default()
    });
    assert!(
        Pin::new(&mut wire)
            .poll_write(&mut context(), b"preface")
            .is_ready()
    );
    assert_eq!(written(&turn), [b"preface"], "nobody drives it yet");
    turn.begin();
    for frame in [b"one ".as_slice(), b"two ", b"three"] {
        assert!(matches!(write(&mut wire, frame), Poll::Ready(Ok(length)) if length == frame.len()));
    }
    assert!(written(&turn).is_empty());
    assert!(matches!(turn.poll_flush(&mut context()), Poll::Ready(Ok(()))));
    assert_eq!(written(&turn), [b"one two three"]);
    assert_eq!(
        lock(&turn.0).gathered.capacity(),
        0,
        "an idle connection holds no buffer"
    );
}

#[test]
fn a_large_frame_takes_what_was_gathered_with_it() {
    let (mut wire, turn) = wire_of(Notes {
        allowed: 5 + DIRECT,
        ..Notes::default()
    });
    turn.begin();
    assert!(write(&mut wire, b"small").is_ready());
    let large = vec![1; DIRECT + 10];
    assert!(matches!(write(&mut wire, &large), Poll::Ready(Ok(DIRECT))));
    assert_eq!(written(&turn).concat().len(), 5 + DIRECT);
    assert!(write(&mut wire, &large).is_pending(), "the socket is full");
}

#[test]
fn what_waits_is_bounded_and_in_order() {
    let (mut wire, turn) = wire_of(Notes::default());
    turn.begin();
    let frame: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let mut taken = Vec::new();
    while write(&mut wire, &frame).is_ready() {
        taken.extend_from_slice(&frame);
        assert!(taken.len() <= GATHERED);
    }
    assert!(taken.len() > GATHERED - frame.len());
    let mut out = Vec::new();
    loop {
        lock(&turn.0).io.allowed = 3_333;
        let done = turn.poll_flush(&mut context()).is_ready();
        out.extend(written(&turn).concat());
        if done {
            break;
        }
    }
    assert!(out == taken);
}

#[tokio::test]
async fn arrivals_are_noticed_once() {
    let (near, mut far) = duplex(64);
    let (mut wire, turn) = wire_of(near);
    assert!(!turn.take_arrived());
    tokio::io::AsyncWriteExt::write_all(&mut far, b"x").await.unwrap();
    wire.read_u8().await.unwrap();
    assert!(turn.take_arrived());
    assert!(!turn.take_arrived());
}
