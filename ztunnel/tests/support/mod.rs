//! An authority inside a network namespace of the test.

use ca::{
    Caller, Denied, JwtAuthenticator, NodeAuthorizer, Service, ServiceConfig, TokenSigner, TokenSubject,
};
use mesh::Identity;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use sys::Namespace;
use sys::socket::{self, ListenOptions};
use tempfile::TempDir;
use tls::server_auth::{Acceptor, ServerIdentity};
use tls::{KeyAndRequest, WorkloadCertificate};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// The name in the authority's own certificate.
pub(crate) const NAME: &str = "istiod.istio-system.svc";

const HOUR: Duration = Duration::from_secs(3600);

/// It trusts tokens of its own signer, and nobody to ask for others.
pub(crate) struct Authority {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    authority: Arc<ca::Authority>,
    signer: TokenSigner,
    server: JoinHandle<()>,
}

struct Nobody;

impl NodeAuthorizer for Nobody {
    fn may_impersonate(&self, caller: &Caller, identity: &Identity) -> Result<(), Denied> {
        // Whoever shows a token of this signer has a pod: none is ever deleted here.
        let pod = ca::Pod {
            namespace: &caller.namespace,
            name: &caller.pod_name,
            uid: &caller.pod_uid,
            service_account: &caller.service_account,
            node: &caller.node,
            terminal: false,
        };
        ca::may_impersonate(caller, identity, [pod])
    }
}

impl Authority {
    /// Serves on loopback of `network`.
    pub(crate) async fn serve(network: &Namespace) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let now = SystemTime::now();
        let authority = Arc::new(ca::Authority::load_or_create(&place("ca"), now).unwrap());
        let signer = TokenSigner::load_or_create(&place("token-key.pem")).unwrap();
        std::fs::write(place("keys.pem"), signer.public_key_pem()).unwrap();
        let authenticator = JwtAuthenticator::new(place("keys.pem"), "https://test", "istio-ca").unwrap();
        let service = Service::new(
            authority.clone(),
            Arc::new(authenticator),
            Arc::new(Nobody),
            ServiceConfig::default(),
        );
        let made = authority
            .issue_server_certificate(&[NAME.to_owned()], HOUR, now)
            .unwrap();
        let acceptor = Acceptor::new(ServerIdentity::from_pem(&made.chain_pem, &made.key).unwrap());
        let any_port = "127.0.0.1:0".parse().unwrap();
        let listener = socket::listen(network, any_port, &ListenOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = tokio::sync::mpsc::channel(16);
        let server = tokio::spawn(async move {
            let accept = async move {
                while let Ok((socket, _)) = listener.accept().await {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        let _ = sender.send(Ok::<_, std::io::Error>(Connection(stream))).await;
                    }
                }
            };
            let incoming = tokio_stream::wrappers::ReceiverStream::new(connections);
            let serve = Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming(incoming);
            let (_, served) = tokio::join!(accept, serve);
            served.unwrap();
        });
        Self {
            directory,
            address,
            authority,
            signer,
            server,
        }
    }

    /// What verifies it and everything it signs.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.directory.path().join("ca/root-cert.pem")
    }

    /// The token of a pod of the namespace demo.
    pub(crate) fn token(&self, pod: &str, uid: &str, service_account: &str) -> String {
        let caller = Caller {
            namespace: "demo".to_owned(),
            service_account: service_account.to_owned(),
            pod_name: pod.to_owned(),
            pod_uid: uid.to_owned(),
            node: "node-a".to_owned(),
        };
        let subject = TokenSubject {
            issuer: "https://test".to_owned(),
            audience: "istio-ca".to_owned(),
            caller,
            service_account_uid: String::new(),
            node_uid: String::new(),
            ttl: HOUR,
        };
        self.signer.sign(&subject, SystemTime::now()).unwrap()
    }

    /// A certificate of an account of the namespace demo.
    pub(crate) fn certificate(&self, service_account: &str) -> WorkloadCertificate {
        let identity = Identity::new("cluster.local", "demo", service_account);
        let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(&identity).unwrap();
        let issued = self
            .authority
            .sign(&request_pem, &identity, HOUR, SystemTime::now());
        WorkloadCertificate::from_pem(&issued.unwrap().chain, &key, &identity).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What tonic wants to know of a connection.
struct Connection(tls::Stream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.0.get_ref().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
