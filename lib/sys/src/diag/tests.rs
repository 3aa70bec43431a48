use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use super::{codec::answers, *};
use crate::test_support::needs_root;

#[test]
fn lists_and_destroys_connections() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let listener = namespace.enter(|| TcpListener::bind(host)).unwrap().unwrap();
        let bound = listener.local_addr().unwrap();
        let mut client = namespace.enter(|| TcpStream::connect(bound)).unwrap().unwrap();
        socket2::SockRef::from(&client).set_mark(0x539).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"x").unwrap();

        let listed = sockets(&namespace).unwrap();
        let listening = listed
            .iter()
            .find(|socket| socket.state == State::Listen && socket.local == bound)
            .unwrap();
        assert_eq!(listening.remote.port(), 0);
        let of_client = listed.iter().find(|socket| socket.remote == bound).unwrap();
        assert_eq!(of_client.state, State::Established);
        assert_eq!(of_client.local, client.local_addr().unwrap());
        assert_eq!(of_client.mark, 0x539);
        assert_ne!(of_client.inode, 0);

        assert!(destroy(&namespace, of_client).unwrap());
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(
            client.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        assert_eq!(
            server.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert!(destroy(&namespace, of_client).unwrap(), "gone already is as good");
        assert!(
            !sockets(&namespace)
                .unwrap()
                .iter()
                .any(|socket| socket.remote == bound)
        );
    }
}

#[test]
fn a_dual_stack_connection_is_told_as_what_it_carries() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let listener = namespace.enter(|| TcpListener::bind("[::]:0")).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = namespace
        .enter(|| TcpStream::connect(("127.0.0.1", port)))
        .unwrap()
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let expected = client.local_addr().unwrap();
    let listed = sockets(&namespace).unwrap();
    let of_server = listed.iter().find(|socket| socket.remote == expected).unwrap();
    assert_eq!(of_server.local.to_string(), format!("127.0.0.1:{port}"));
    assert!(destroy(&namespace, of_server).unwrap());
    assert!(server.read(&mut [0]).is_err());
    assert!(client.read(&mut [0]).is_err());
}

#[test]
fn sockets_of_other_namespaces_are_not_listed() {
    if needs_root() {
        return;
    }
    let namespace = Namespace::create().unwrap();
    let _elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(sockets(&namespace).unwrap(), []);
}

#[test]
fn malformed_answers_are_errors() {
    // Longer than the datagram, shorter than a header, and a socket cut short.
    let mut cut = vec![0u8; 20];
    cut[..4].copy_from_slice(&20u32.to_ne_bytes());
    cut[4..6].copy_from_slice(&20u16.to_ne_bytes());
    for bytes in [vec![0xff; 20], vec![8, 0, 0, 0, 0, 0, 0, 0], vec![1, 2], cut] {
        assert!(answers(&bytes).next().unwrap().is_err(), "{bytes:?}");
        assert!(answers(&bytes).count() <= 1);
    }
    assert_eq!(answers(&[]).count(), 0);
}

#[test]
fn an_error_number_without_a_positive_is_an_error_all_the_same() {
    for kind in [2u16, 3] {
        let mut message = vec![0u8; 20];
        message[..4].copy_from_slice(&20u32.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[16..].copy_from_slice(&i32::MIN.to_ne_bytes());
        let answer = answers(&message).next().unwrap();
        assert!(matches!(answer, Ok(Answer::Error(i32::MAX))));
    }
}

#[test]
fn an_error_number_that_the_kernel_does_not_write_is_malformed() {
    let mut message = vec![0u8; 20];
    message[..4].copy_from_slice(&20u32.to_ne_bytes());
    message[4..6].copy_from_slice(&2u16.to_ne_bytes());
    message[16..].copy_from_slice(&88i32.to_ne_bytes());
    assert!(answers(&message).next().unwrap().is_err());
}
