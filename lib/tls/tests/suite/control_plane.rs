//! One-way TLS with a name.

use std::time::SystemTime;

use tls::HandshakeError;
use tls::server_auth::{Acceptor, Client, RootError, RootSource, ServerIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::{Forged, Forger, HOUR, authority, id, raw_server, raw_server_on, sockets};

fn acceptor(authority: &ca::Authority, names: &[&str]) -> Acceptor {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = authority
        .issue_server_certificate(&names, HOUR, SystemTime::now())
        .unwrap();
    let identity = ServerIdentity::from_pem(&made.chain_pem, &made.key).unwrap();
    assert_eq!(identity.not_after(), made.not_after);
    Acceptor::new(identity)
}

#[tokio::test]
async fn the_name_is_verified() {
    let authority = authority();
    let acceptor = acceptor(&authority, &["istiod.istio-system.svc", "127.0.0.1"]);
    let client = Client::load(&RootSource::Pem(authority.root_pem())).unwrap();
    for name in ["istiod.istio-system.svc", "127.0.0.1"] {
        let (a, b) = duplex(1 << 16);
        let (mut client, mut server) = {
            let (client, server) = tokio::join!(client.connect(a, name), acceptor.accept(b));
            (client.unwrap(), server.unwrap())
        };
        client.write_all(b"question").await.unwrap();
        server.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(client.alpn(), Some(&b"h2"[..]));
    }
    let (a, b) = duplex(1 << 16);
    let (refused, told) = tokio::join!(client.connect(a, "other.svc"), acceptor.accept(b));
    let error = refused.err().unwrap();
    assert_eq!(error.code(), "wrong_name");
    assert!(error.to_string().contains("istiod.istio-system.svc"), "{error}");
    assert_eq!(told.err().unwrap().code(), "peer_alert_bad_certificate");

    let (a, _b) = duplex(1 << 16);
    let error = client.connect(a, "not a name").await.err().unwrap();
    assert_eq!(error, HandshakeError::BadName("not a name".to_owned()));
}

#[tokio::test]
async fn another_authoritys_server_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let acceptor = acceptor(&theirs, &["istiod.istio-system.svc"]);
    let client = Client::load(&RootSource::Pem(ours.root_pem())).unwrap();
    let (a, b) = duplex(1 << 16);
    let (refused, _) = tokio::join!(client.connect(a, "istiod.istio-system.svc"), acceptor.accept(b));
    assert_eq!(refused.err().unwrap(), HandshakeError::UntrustedIssuer);
}

#[tokio::test]
async fn a_workloads_certificate_is_no_servers() {
    let forger = Forger::new();
    let shown = forger.sign(&Forged::uris(&[&id("a").to_string()]));
    let client = Client::load(&RootSource::Pem(forger.root_pem.clone())).unwrap();
    let (ours, theirs) = sockets();
    let peer = std::thread::spawn(move || {
        let _ = std::io::Read::read(&mut raw_server_on(theirs, raw_server(shown)), &mut [0; 8]);
    });
    let error = client
        .connect(ours, "istiod.istio-system.svc")
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "wrong_name");
    peer.join().unwrap();
}

#[tokio::test]
async fn a_certificate_is_replaced_while_running() {
    let (old, new) = (authority(), authority());
    let acceptor = acceptor(&old, &["cp.svc"]);
    let made = new
        .issue_server_certificate(&["cp.svc".to_owned()], HOUR, SystemTime::now())
        .unwrap();
    acceptor.replace(ServerIdentity::from_pem(&made.chain_pem, &made.key).unwrap());
    assert_eq!(acceptor.not_after(), made.not_after);
    let client = Client::load(&RootSource::Pem(new.root_pem())).unwrap();
    let (a, b) = duplex(1 << 16);
    let (client, server) = tokio::join!(client.connect(a, "cp.svc"), acceptor.accept(b));
    assert!(client.is_ok() && server.is_ok());
}

#[test]
fn missing_roots_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root-cert.pem");
    let error = Client::load(&RootSource::Path(path.clone())).err().unwrap();
    assert!(matches!(error, RootError::Read { .. }));
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(error.to_string().contains("mount the file"), "{error}");

    std::fs::write(&path, "nothing of use").unwrap();
    let error = Client::load(&RootSource::Path(path.clone())).err().unwrap();
    assert!(matches!(error, RootError::Malformed { .. }));
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");

    // A file that appears is seen at the next load.
    std::fs::write(&path, authority().root_pem()).unwrap();
    assert!(Client::load(&RootSource::Path(path)).is_ok());
}

#[test]
fn settings_are_read() {
    assert_eq!("SYSTEM".parse(), Ok(RootSource::System));
    assert_eq!("./root.pem".parse(), Ok(RootSource::Path("./root.pem".into())));
    let pem = authority().root_pem();
    assert_eq!(pem.parse(), Ok(RootSource::Pem(pem.clone())));
}
