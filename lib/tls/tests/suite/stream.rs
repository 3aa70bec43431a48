//! What goes in comes out: sizes, order, ends, and the memory it takes.

use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tls::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{pair, pair_over, pattern};

const BULK: u64 = 64 << 20;

/// A number that looks random and is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Sizes from one byte to a megabyte, small ones as often as large ones.
fn size(dice: &mut Dice) -> usize {
    let most = 1 << dice.roll(21);
    1 + dice.roll(most)
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, total: u64, seed: u64) {
    let (mut dice, mut position) = (Dice(seed), 0);
    while position < total {
        let length = (size(&mut dice) as u64).min(total - position);
        let bytes: Vec<u8> = (position..position + length).map(pattern).collect();
        if dice.roll(2) == 0 {
            writer.write_all(&bytes).await.unwrap();
        } else {
            // As HTTP/2 does: a short header, then a body, then another of both.
            let cut = |at: usize| at.min(bytes.len());
            let pieces = [0, 9, 9 + bytes.len() / 3, 18 + bytes.len() / 3, bytes.len()].map(cut);
            let slices = pieces
                .windows(2)
                .map(|ends| IoSlice::new(&bytes[ends[0]..ends[1].max(ends[0])]));
            let mut slices: Vec<_> = slices.collect();
            write_all_vectored(writer, &mut slices).await;
        }
        position += length;
        if dice.roll(8) == 0 {
            writer.flush().await.unwrap();
        }
    }
    writer.shutdown().await.unwrap();
}

async fn write_all_vectored<W: AsyncWrite + Unpin>(writer: &mut W, mut slices: &mut [IoSlice<'_>]) {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = writer.write_vectored(slices).await.unwrap();
        assert!(written > 0);
        IoSlice::advance_slices(&mut slices, written);
    }
}

async fn receive<R: AsyncRead + Unpin>(reader: &mut R, total: u64, seed: u64) {
    let (mut dice, mut position) = (Dice(seed), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let room = size(&mut dice);
        let read = reader.read(&mut buffer[..room]).await.unwrap();
        if read == 0 {
            break;
        }
        for (offset, byte) in buffer[..read].iter().enumerate() {
            assert_eq!(
                *byte,
                pattern(position + offset as u64),
                "at {}",
                position + offset as u64
            );
        }
        position += read as u64;
    }
    assert_eq!(position, total);
}

async fn exchange<IO: AsyncRead + AsyncWrite + Unpin>(client: Stream<IO>, server: Stream<IO>, total: u64) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut server_read, mut server_write) = tokio::io::split(server);
    tokio::join!(
        send(&mut client_write, total, 1),
        receive(&mut server_read, total, 2),
        send(&mut server_write, total, 3),
        receive(&mut client_read, total, 4),
    );
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[tokio::test]
async fn bulk_in_both_directions_at_once_over_tcp() {
    let (client, server) = pair_over(tcp().await).await;
    exchange(client, server, BULK).await;
}

#[tokio::test]
async fn bulk_through_a_narrow_pipe() {
    for capacity in [1000, 16 * 1024, 1 << 20] {
        let (client, server) = pair(capacity).await;
        exchange(client, server, 4 << 20).await;
    }
}

#[tokio::test]
async fn one_byte_at_a_time() {
    let (mut client, mut server) = pair(1 << 16).await;
    let writer = async {
        for position in 0..3000 {
            client.write_all(&[pattern(position)]).await.unwrap();
        }
        client.shutdown().await.unwrap();
    };
    let reader = async {
        for position in 0..3000 {
            assert_eq!(server.read_u8().await.unwrap(), pattern(position));
        }
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    };
    tokio::join!(writer, reader);
}

#[tokio::test]
async fn pieces_share_records() {
    let (client, mut server) = pair_over(counted(1 << 20)).await;
    let mut client = client;
    assert!(client.is_write_vectored());
    let before = client.get_ref().written;
    let bodies = vec![7; 100];
    let slices: Vec<_> = (0..60).map(|_| IoSlice::new(&bodies)).collect();
    assert_eq!(client.write_vectored(&slices).await.unwrap(), 6000);
    // One record: 5 bytes of header, 1 of type, 16 of tag.
    assert_eq!(client.get_ref().written - before, 6022);
    assert_eq!(client.get_ref().writes_since(before), 1);

    // A frame header and a long body: full records, one write.
    let before = client.get_ref().written;
    let body = vec![9; 64 * 1024 - 9];
    assert_eq!(
        client
            .write_vectored(&[IoSlice::new(&[1; 9]), IoSlice::new(&body)])
            .await
            .unwrap(),
        65536
    );
    assert_eq!(client.get_ref().written - before, 65536 + 4 * 22);
    assert_eq!(client.get_ref().writes_since(before), 1);
    let mut all = vec![0; 6000 + 65536];
    server.read_exact(&mut all).await.unwrap();
    assert!(all[..6000].iter().all(|byte| *byte == 7));
    assert!(all[6000..6009].iter().all(|byte| *byte == 1));
    assert!(all[6009..].iter().all(|byte| *byte == 9));
}

#[tokio::test]
async fn reads_run_far_ahead_when_there_is_much() {
    let (mut client, mut server) = pair_over(counted(4 << 20)).await;
    client.write_all(&vec![1; 2 << 20]).await.unwrap();
    let before = server.get_ref().reads;
    let mut all = vec![0; 2 << 20];
    server.read_exact(&mut all).await.unwrap();
    let reads = server.get_ref().reads - before;
    assert!(reads <= 12, "{reads} reads for 2 MiB");
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffer() {
    let (mut client, mut server) = pair(4 << 20).await;
    assert_eq!((client.buffered_memory(), server.buffered_memory()), (0, 0));
    client.write_all(&vec![1; 3 << 20]).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.buffered_memory(), 0);
    let mut all = vec![0; 3 << 20];
    server.read_exact(&mut all).await.unwrap();
    // Waiting for more is idle too.
    assert_pending(&mut server).await;
    assert_eq!(server.buffered_memory(), 0);
    assert_pending(&mut client).await;
    assert_eq!(client.buffered_memory(), 0);
}

#[tokio::test]
async fn a_stalled_reader_bounds_what_is_held() {
    let (mut client, mut server) = pair(8 << 20).await;
    let writer = tokio::spawn(async move {
        client.write_all(&vec![1; 6 << 20]).await.unwrap();
        client
    });
    let mut byte = [0];
    for _ in 0..40_000 {
        server.read_exact(&mut byte).await.unwrap();
    }
    assert!(
        server.buffered_memory() <= (256 + 20) * 1024,
        "{}",
        server.buffered_memory()
    );
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn part_of_a_record_does_not_keep_a_large_buffer() {
    let (client_end, server_end) = tokio::io::duplex(4 << 20);
    let (client, mut server) = pair_over((Held::new(client_end), Held::new(server_end))).await;
    let mut client = client;
    client.write_all(&vec![1; 2 << 20]).await.unwrap();
    let mut all = vec![0; 2 << 20];
    server.read_exact(&mut all).await.unwrap();
    // The last record is held back but for its first 5000 bytes.
    client.get_mut().hold_after = Some(5000);
    client.write_all(&vec![2; 16_000]).await.unwrap();
    assert_pending(&mut server).await;
    assert!(
        server.buffered_memory() <= 20 * 1024,
        "{}",
        server.buffered_memory()
    );
    client.get_mut().hold_after = None;
    client.flush().await.unwrap();
    let mut rest = vec![0; 16_000];
    server.read_exact(&mut rest).await.unwrap();
    assert!(rest.iter().all(|byte| *byte == 2));
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error() {
    let (mut client, mut server) = pair(1 << 16).await;
    client.write_all(b"all there is").await.unwrap();
    drop(client);
    let mut text = Vec::new();
    let error = server.read_to_end(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(text, b"all there is");
}

#[tokio::test]
async fn changed_bytes_are_an_error() {
    let (client_end, server_end) = tokio::io::duplex(1 << 16);
    let (mut client, mut server) = pair_over((client_end, server_end)).await;
    client.write_all(b"good").await.unwrap();
    client.get_mut().write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    client.get_mut().write_all(&[0; 20]).await.unwrap();
    let mut text = [0; 4];
    server.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"good");
    assert_eq!(
        server.read(&mut text).await.unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    // The sender is told.
    let error = client.read(&mut text).await.unwrap_err();
    let reason = tls::HandshakeError::from_io(&error).unwrap();
    assert_eq!(reason.code(), "peer_alert_bad_record_mac");
}

#[tokio::test]
async fn nothing_is_written_after_the_close() {
    let (mut client, mut server) = pair(1 << 16).await;
    client.shutdown().await.unwrap();
    assert!(client.write_all(b"late").await.is_err());
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
}

/// Reading must not be possible now.
async fn assert_pending<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<IO>) {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let poll =
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut buffer))).await;
    assert!(poll.is_pending());
}

/// Counts what goes through.
struct Counted<IO> {
    io: IO,
    reads: usize,
    written: usize,
    ends: Vec<usize>,
}

fn counted(capacity: usize) -> (Counted<tokio::io::DuplexStream>, Counted<tokio::io::DuplexStream>) {
    let (a, b) = tokio::io::duplex(capacity);
    let wrap = |io| Counted {
        io,
        reads: 0,
        written: 0,
        ends: Vec::new(),
    };
    (wrap(a), wrap(b))
}

impl<IO> Counted<IO> {
    fn writes_since(&self, written: usize) -> usize {
        self.ends.iter().filter(|end| **end > written).count()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.reads += 1;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, data);
        if let Poll::Ready(Ok(written)) = &poll {
            self.written += written;
            let end = self.written;
            self.ends.push(end);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Lets only so many bytes through.
struct Held<IO> {
    io: IO,
    hold_after: Option<usize>,
}

impl<IO> Held<IO> {
    fn new(io: IO) -> Self {
        Self { io, hold_after: None }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Held<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Held<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let most = self.hold_after.unwrap_or(data.len()).min(data.len());
        if most == 0 {
            return Poll::Pending;
        }
        let poll = Pin::new(&mut self.io).poll_write(cx, &data[..most]);
        if let (Poll::Ready(Ok(written)), Some(left)) = (&poll, self.hold_after.as_mut()) {
            *left -= written;
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
