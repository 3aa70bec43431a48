//! Bytes between pods: all of them, in order, in both directions; ends and resets as the applications made them; and
//! the addresses that the applications see.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tests::manifests::{join, namespace, sleeper};
use tests::{Lab, Place, Pod, Random, require_root};

const GIB: usize = 1 << 30;
const CHUNK: usize = 256 * 1024;

#[test]
fn one_gibibyte_each_way_through_one_connection() {
    if !require_root() {
        return;
    }
    let seed = Random::seed("one_gibibyte_each_way_through_one_connection");
    let (client, server) = pods("client", "server");
    let listener = server.listen(7001);
    let begun = Instant::now();
    let near = client.connect(server.at(7001)).unwrap();
    let (far, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| send(&near, seed, GIB));
        scope.spawn(|| send(&far, seed + 1, GIB));
        scope.spawn(|| receive(&near, seed + 1, GIB));
        receive(&far, seed, GIB);
    });
    println!("1 GiB each way in {:?}", begun.elapsed());
}

#[test]
fn one_gibibyte_through_two_hundred_connections() {
    if !require_root() {
        return;
    }
    const CONNECTIONS: u64 = 200;
    const EACH: usize = GIB / 2 / CONNECTIONS as usize;
    let seed = Random::seed("one_gibibyte_through_two_hundred_connections");
    let (client, server) = pods("client", "server");
    let listener = server.listen(7002);
    // Nobody sends before all are connected and accepted: they are open at the same time.
    let all_open = Arc::new(Barrier::new(2 * CONNECTIONS as usize));
    let mut ends = Vec::new();
    let start = |name: String, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name)
            .stack_size(CHUNK * 3)
            .spawn(work)
            .unwrap()
    };
    let begun = Instant::now();
    let accepting = {
        let all_open = all_open.clone();
        thread::spawn(move || {
            let mut ends = Vec::new();
            for _ in 0..CONNECTIONS {
                let (mut stream, _) = listener.accept().unwrap();
                let all_open = all_open.clone();
                ends.push(start(
                    "far".to_owned(),
                    Box::new(move || {
                        all_open.wait();
                        // The first bytes say which of the sequences this connection carries.
                        let mut number = [0; 8];
                        stream.read_exact(&mut number).unwrap();
                        both_ways(&stream, seed, u64::from_le_bytes(number), false, EACH);
                    }),
                ));
            }
            ends
        })
    };
    for number in 0..CONNECTIONS {
        let mut stream = client.connect(server.at(7002)).unwrap();
        let all_open = all_open.clone();
        ends.push(start(
            format!("near {number}"),
            Box::new(move || {
                all_open.wait();
                stream.write_all(&number.to_le_bytes()).unwrap();
                both_ways(&stream, seed, number, true, EACH);
            }),
        ));
    }
    ends.extend(accepting.join().unwrap());
    let failed = ends.into_iter().filter_map(|end| end.join().err()).count();
    assert_eq!(
        failed, 0,
        "connections that failed, of {CONNECTIONS} with two ends each"
    );
    println!("1 GiB in {:?}", begun.elapsed());
}

#[test]
fn a_client_that_has_finished_still_receives() {
    for_every_path(7010, |near, far| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&near, 1, 100_000);
                receive(&near, 2, 3_000_000);
            });
            // Only after the client's end does the server begin.
            receive(&far, 1, 100_000);
            send(&far, 2, 3_000_000);
        });
    });
}

#[test]
fn a_server_that_has_finished_still_receives() {
    for_every_path(7020, |near, far| {
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&far, 3, 100_000);
                receive(&far, 4, 3_000_000);
            });
            receive(&near, 3, 100_000);
            send(&near, 4, 3_000_000);
        });
    });
}

#[test]
fn a_client_that_resets_is_seen_to_reset() {
    for_every_path(7030, |near, far| {
        exchange(&near, &far);
        reset(near);
        assert_eq!(
            end_of(&far),
            Err(ErrorKind::ConnectionReset),
            "what the server sees"
        );
    });
}

#[test]
fn a_server_that_resets_is_seen_to_reset() {
    for_every_path(7040, |near, far| {
        exchange(&near, &far);
        reset(far);
        assert_eq!(
            end_of(&near),
            Err(ErrorKind::ConnectionReset),
            "what the client sees"
        );
    });
}

/// A reset also ends a connection of which the resetting side had sent its end already.
#[test]
fn a_reset_after_a_half_close_is_seen_to_reset() {
    for_every_path(7050, |near, far| {
        exchange(&near, &far);
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end_of(&near), Ok(()), "the server's end");
        reset(near);
        assert_eq!(
            end_of(&far),
            Err(ErrorKind::ConnectionReset),
            "what the server sees"
        );
    });
}

#[test]
fn an_orderly_close_is_never_seen_as_a_reset() {
    for_every_path(7060, |near, far| {
        exchange(&near, &far);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end_of(&far), Ok(()), "what the server sees");
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end_of(&near), Ok(()), "what the client sees");
    });
    // Closed at once behind the last byte, as most programs do, many times: a race would show as a reset or as loss.
    if !require_root() {
        return;
    }
    let (client, server) = pods("client", "server");
    let listener = server.listen(7069);
    let serving = thread::spawn(move || {
        for _ in 0..100 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&[7; 20_000]).unwrap();
        }
    });
    for round in 0..100 {
        let mut stream = client.connect(server.at(7069)).unwrap();
        stream.write_all(b"ping").unwrap();
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(answer.len(), 20_000, "round {round}");
    }
    serving.join().unwrap();
}

#[test]
fn the_server_sees_the_clients_own_address() {
    if !require_root() {
        return;
    }
    for (port, (client, server)) in (7070..).zip(paths()) {
        let listener = server.listen(port);
        let near = client.connect(server.at(port)).unwrap();
        let (far, caller) = listener.accept().unwrap();
        assert_eq!(caller.ip(), client.ip, "{} to {}", client.name, server.name);
        assert_eq!(
            far.local_addr().unwrap(),
            server.at(port),
            "{} to {}",
            client.name,
            server.name
        );
        assert_eq!(
            near.peer_addr().unwrap(),
            server.at(port),
            "{} to {}",
            client.name,
            server.name
        );
        exchange(&near, &far);
    }
}

/// A byte by itself arrives at once: nothing waits for a buffer to fill.
#[test]
fn a_single_byte_is_not_held_back() {
    for_every_path(7080, |mut near, mut far| {
        near.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut byte = [0];
        for round in 0..50 {
            near.write_all(&[round]).unwrap();
            far.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], round);
            far.write_all(&[!round]).unwrap();
            near.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], !round);
        }
    });
}

/// A reader that stops reading stops the writer: what is on its way is bounded by buffers, not by memory. Once it
/// reads again, all arrives.
#[test]
fn a_reader_that_pauses_holds_the_writer_back() {
    if !require_root() {
        return;
    }
    const TOTAL: usize = 256 << 20;
    const BUFFERED_MAX: usize = 64 << 20;
    let (client, server) = pods("client", "server");
    let listener = server.listen(7091);
    let near = client.connect(server.at(7091)).unwrap();
    let (far, _) = listener.accept().unwrap();
    let sent = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| send_counted(&near, 5, TOTAL, &sent));
        // Until it stands still.
        let now = || sent.load(std::sync::atomic::Ordering::Relaxed);
        let (mut last, mut since) = (now(), Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(20));
            if now() != last {
                (last, since) = (now(), Instant::now());
            }
        }
        assert!(
            last < BUFFERED_MAX,
            "{last} bytes were taken from a writer whose reader sleeps"
        );
        receive(&far, 5, TOTAL);
    });
}

/// Client and server pods of every kind of path: between nodes, on one node, from outside of the mesh, to the outside.
fn paths() -> Vec<(Pod, Pod)> {
    [
        ("client", "server"),
        ("client", "neighbour"),
        ("outsider", "server"),
        ("client", "far-outsider"),
    ]
    .map(|(client, server)| pods(client, server))
    .into()
}

/// Runs `f` with both ends of a fresh connection over every kind of path; each has a port of its own from `port` on.
fn for_every_path(port: u16, f: impl Fn(TcpStream, TcpStream)) {
    if !require_root() {
        return;
    }
    for (port, (client, server)) in (port..).zip(paths()) {
        println!("{} to {}", client.name, server.name);
        let (near, far) = open(&client, &server.listen(port), &server, port);
        f(near, far);
    }
}

fn open(client: &Pod, listener: &TcpListener, server: &Pod, port: u16) -> (TcpStream, TcpStream) {
    let near = client.connect(server.at(port)).unwrap();
    (near, listener.accept().unwrap().0)
}

fn pods(client: &str, server: &str) -> (Pod, Pod) {
    static LAB: OnceLock<(Lab, Vec<Pod>)> = OnceLock::new();
    let (_, pods) = LAB.get_or_init(|| {
        let lab = Lab::up(&join([
            namespace("mesh", true),
            namespace("outside", false),
            sleeper("mesh", "client", "client", "node-a"),
            sleeper("mesh", "neighbour", "neighbour", "node-a"),
            sleeper("mesh", "server", "server", "node-b"),
            sleeper("outside", "outsider", "default", "node-a"),
            sleeper("outside", "far-outsider", "default", "node-b"),
        ]));
        let names = [
            "mesh/client",
            "mesh/neighbour",
            "mesh/server",
            "outside/outsider",
            "outside/far-outsider",
        ];
        let pods = names.map(|name| lab.pod(name)).into();
        (lab, pods)
    });
    let find = |name| pods.iter().find(|pod| pod.name == name).unwrap().clone();
    (find(client), find(server))
}

fn both_ways(stream: &TcpStream, seed: u64, number: u64, near: bool, length: usize) {
    let of = |direction: u64| seed.wrapping_add(1_000_003 * (2 * number + direction));
    let (out, back) = if near { (of(0), of(1)) } else { (of(1), of(0)) };
    thread::scope(|scope| {
        let sending = thread::Builder::new().stack_size(CHUNK * 3);
        sending.spawn_scoped(scope, || send(stream, out, length)).unwrap();
        receive(stream, back, length);
    });
}

/// Sends this seed's bytes and then the end.
fn send(stream: &TcpStream, seed: u64, length: usize) {
    send_counted(stream, seed, length, &std::sync::atomic::AtomicUsize::new(0));
}

fn send_counted(mut stream: &TcpStream, seed: u64, length: usize, sent: &std::sync::atomic::AtomicUsize) {
    let mut random = Random::new(seed);
    let mut chunk = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let part = left.min(CHUNK);
        random.fill(&mut chunk[..part]);
        let mut rest = &chunk[..part];
        while !rest.is_empty() {
            let count = stream
                .write(rest)
                .unwrap_or_else(|error| panic!("writing with {left} bytes left: {error}"));
            sent.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            rest = &rest[count..];
        }
        left -= part;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Receives exactly this seed's bytes and then the end.
fn receive(mut stream: &TcpStream, seed: u64, length: usize) {
    let mut random = Random::new(seed);
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < length {
        let part = (length - at).min(CHUNK);
        stream
            .read_exact(&mut chunk[..part])
            .unwrap_or_else(|error| panic!("reading after {at} bytes: {error}"));
        random.fill(&mut expected[..part]);
        assert!(
            chunk[..part] == expected[..part],
            "other bytes than were sent, between {at} and {}",
            at + part
        );
        at += part;
    }
    assert_eq!(stream.read(&mut chunk).unwrap(), 0, "bytes that nobody sent");
}

/// A word each way: the connection stands from end to end.
fn exchange(mut near: &TcpStream, mut far: &TcpStream) {
    let mut word = [0; 4];
    near.write_all(b"ping").unwrap();
    far.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ping");
    far.write_all(b"pong").unwrap();
    near.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"pong");
}

/// Ends a connection with RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads to the end: `Ok` for an orderly one.
fn end_of(mut stream: &TcpStream) -> Result<(), ErrorKind> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {
            assert!(rest.is_empty(), "bytes that nobody sent: {rest:?}");
            Ok(())
        }
        Err(error) => Err(error.kind()),
    }
}
