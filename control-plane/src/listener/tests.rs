//! Who may have how many connections.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use ca::Authority;
use tls::server_auth::ServerIdentity;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use super::*;

/// Long enough for any machine; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection from this address of loopback that nobody has closed yet.
async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server closes it without a word, before any deadline of a handshake.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(HANDSHAKE_DEADLINE / 2, stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

#[tokio::test]
async fn one_address_does_not_keep_the_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::load_or_create(folder.path(), now).unwrap();
    let names = ["localhost".to_owned()];
    let life = Duration::from_secs(3600);
    let certificate = authority.issue_server_certificate(&names, life, now).unwrap();
    let identity = ServerIdentity::from_pem(&certificate.chain_pem, &certificate.key).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, _accepted) = mpsc::channel(8);
    let limits = Limits {
        all: 4,
        per_address: 2,
    };
    let accepting = accept(listener, Arc::new(Acceptor::new(identity)), connections, limits);
    let accepting = tokio::spawn(accepting);

    let mut first = vec![connect(1, address).await, connect(1, address).await];
    let mut third = connect(1, address).await;
    assert!(is_closed(&mut third).await, "it has two already");
    // Another address has its own share, and those that are open stay.
    let mut other = connect(2, address).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), other.read_u8()).await;
    assert!(
        waiting.is_err(),
        "it is waited for, as a client that says nothing is"
    );
    assert!(first.iter_mut().all(|stream| {
        stream
            .try_read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }));
    // What goes makes room.
    first.clear();
    let again = async {
        loop {
            let mut stream = connect(1, address).await;
            let waiting = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
            if waiting.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    accepting.abort();
}
