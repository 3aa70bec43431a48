use std::{fs::File, io::Read, os::fd::AsFd};

use super::*;

async fn pair(directory: &Path) -> (Listener, Connection, Connection) {
    let path = directory.join("socket");
    let listener = Listener::bind(&path).unwrap();
    let (client, server) = tokio::join!(Connection::connect(&path), listener.accept());
    (listener, client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn records_and_descriptors_arrive_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (_listener, client, server) = pair(directory.path()).await;
    let file = directory.path().join("file");
    fs::write(&file, "content").unwrap();
    let sent = File::open(&file).unwrap();
    client.send(b"first", Some(sent.as_fd())).await.unwrap();
    client.send(b"second", None).await.unwrap();

    let (record, descriptors) = server.recv(64).await.unwrap();
    assert_eq!(record, b"first");
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
    let flags = nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    let mut text = String::new();
    File::from(descriptor).read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");

    let (record, descriptors) = server.recv(6).await.unwrap();
    assert_eq!((record.as_slice(), descriptors.len()), (b"second".as_slice(), 0));
    drop(client);
    assert_eq!(
        server.recv(64).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_record_too_long_is_an_error_and_leaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_listener, client, server) = pair(directory.path()).await;
    // The descriptor sent is one end of a pipe: the other end learns when the last copy is closed.
    let (reader, writer) = std::io::pipe().unwrap();
    client.send(&[7; 65], Some(writer.as_fd())).await.unwrap();
    drop(writer);
    let error = server.recv(64).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "the peer sent a record longer than 64 bytes");
    let mut rest = Vec::new();
    let mut reader = reader;
    reader.read_to_end(&mut rest).unwrap();
    // The connection goes on.
    client.send(b"next", None).await.unwrap();
    assert_eq!(server.recv(64).await.unwrap().0, b"next");
}

#[tokio::test]
async fn too_many_descriptors_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (_listener, client, server) = pair(directory.path()).await;
    let file = File::open("/dev/null").unwrap();
    let raw = [file.as_raw_fd(); MAX_DESCRIPTORS + 1];
    let control = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
    let data = [io::IoSlice::new(b"x")];
    let none = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::sendmsg::<()>(client.socket.get_ref().as_raw_fd(), &data, &control, none, None)
        .unwrap();
    assert_eq!(
        server.recv(64).await.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[tokio::test]
async fn tells_who_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (_listener, client, server) = pair(directory.path()).await;
    let credentials = server.peer_credentials().unwrap();
    assert_eq!(credentials.pid.unsigned_abs(), std::process::id());
    assert_eq!(credentials.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(
        client.peer_credentials().unwrap().pid.unsigned_abs(),
        std::process::id()
    );
}

#[tokio::test]
async fn a_leftover_is_replaced_and_a_living_socket_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let leftover = make().unwrap();
    leftover.bind(&address_of(&path).unwrap()).unwrap();
    drop(leftover);
    assert!(path.exists());
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        Listener::bind(&path).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    // A successor that took the path over keeps its file.
    fs::remove_file(&path).unwrap();
    let successor = Listener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(successor);
    assert!(!path.exists());
    let long = directory.path().join("x".repeat(120));
    assert!(Listener::bind(long).unwrap_err().to_string().contains("too long"));
}
