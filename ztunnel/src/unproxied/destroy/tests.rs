use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use sys::diag::State;

/// A connection on loopback of a namespace of its own, and its accepting end as the kernel lists it.
fn connection(namespace: &Namespace) -> (TcpStream, TcpStream, SocketInfo) {
    let (client, server) = namespace
        .enter(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .unwrap();
    let local = server.local_addr().unwrap();
    let found = diag::sockets(namespace)
        .unwrap()
        .into_iter()
        .find(|socket| socket.local == local && socket.state == State::Established)
        .unwrap();
    (client, server, found)
}

fn root() -> bool {
    let root = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("\nUid:\t0\t0\t0\t0\n");
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[test]
fn a_socket_is_destroyed_where_the_kernel_can() {
    if !root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let (mut client, _server, found) = connection(&namespace);
    match end(&namespace, &found).unwrap() {
        Ended::Destroyed => {
            let error = client.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // The other way is held by the test below.
        ended => println!("this kernel has no INET_DIAG_DESTROY: {ended:?}"),
    }
}

#[test]
fn the_drop_rule_stops_every_byte_towards_the_pod() {
    if !root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let (mut client, mut server, found) = connection(&namespace);
    assert_eq!(drop_packets(&namespace, &found).unwrap(), Ended::Dropped);
    // It stays established for the application, and is found again by each later look.
    assert_eq!(drop_packets(&namespace, &found).unwrap(), Ended::DroppedBefore);
    client.write_all(b"late").unwrap();
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let error = server.read(&mut [0; 4]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
}
