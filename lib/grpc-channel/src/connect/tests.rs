use tls::server_auth::RootSource;
use tower::Service;

use super::{Connector, DialError};

async fn dial(host: &str, port: u16, roots: RootSource) -> DialError {
    let mut connector = Connector::new(
        host.to_owned(),
        port,
        "cp.svc".to_owned(),
        roots,
        tls::CompliancePolicy::None,
    );
    connector
        .call(http::Uri::from_static("https://ignored"))
        .await
        .err()
        .unwrap()
}

#[tokio::test]
async fn every_failure_says_where_and_why() {
    let authority = {
        let directory = tempfile::tempdir().unwrap();
        ca::Authority::load_or_create(directory.path(), std::time::SystemTime::now()).unwrap()
    };
    let roots = RootSource::Pem(authority.root_pem());

    let error = dial("127.0.0.1", 1, RootSource::Path("/no/such/root.pem".into())).await;
    assert!(matches!(error, DialError::Roots(_)));
    assert!(error.to_string().contains("/no/such/root.pem"), "{error}");

    // A port that was free a moment ago and has no listener.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = dial("127.0.0.1", free, roots.clone()).await;
    assert!(matches!(error, DialError::Connect { .. }));
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{free}")),
        "{error}"
    );

    // Somebody who speaks no TLS.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4096]).await;
        socket
    });
    let error = dial("127.0.0.1", port, roots).await;
    assert!(
        matches!(
            &error,
            DialError::Tls {
                error: tls::HandshakeError::NotTls,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("cp.svc"), "{error}");
    server.await.unwrap();
}
