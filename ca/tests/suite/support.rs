//! An authority that serves on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ca::{
    Authority, Caller, Denied, JwtAuthenticator, NodeAuthorizer, Pod, Service, ServiceConfig, TokenSigner,
    TokenSubject, may_impersonate,
};
use grpc_channel::{ChannelConfig, Token};
use mesh::Identity;
use tempfile::TempDir;
use tls::server_auth::{Acceptor, RootSource, ServerIdentity};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::Connected;

pub(crate) const NAME: &str = "istiod.istio-system.svc";

pub(crate) struct Rig {
    pub(crate) authority: Arc<Authority>,
    pub(crate) signer: TokenSigner,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    server: JoinHandle<()>,
}

/// Two nodes: a proxy and a workload on each.
struct Pods;

impl NodeAuthorizer for Pods {
    fn may_impersonate(&self, caller: &Caller, identity: &Identity) -> Result<(), Denied> {
        let pod = |namespace, name, uid, service_account, node| Pod {
            namespace,
            name,
            uid,
            service_account,
            node,
            terminal: false,
        };
        let pods = [
            pod("istio-system", "ztunnel-a", "uid-a", "ztunnel", "node-a"),
            pod("istio-system", "ztunnel-b", "uid-b", "ztunnel", "node-b"),
            pod("demo", "client-1", "uid-c", "client", "node-a"),
            pod("demo", "server-1", "uid-s", "server", "node-b"),
        ];
        may_impersonate(caller, identity, pods)
    }
}

pub(crate) fn node_proxy(node: &str) -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: format!("ztunnel-{node}"),
        pod_uid: format!("uid-{node}"),
        node: format!("node-{node}"),
    }
}

pub(crate) fn workload() -> Caller {
    Caller {
        namespace: "demo".to_owned(),
        service_account: "client".to_owned(),
        pod_name: "client-1".to_owned(),
        pod_uid: "uid-c".to_owned(),
        node: "node-a".to_owned(),
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|service| service).await
    }

    pub(crate) async fn with(change: impl FnOnce(Service) -> Service) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let now = SystemTime::now();
        let authority = Arc::new(Authority::load_or_create(&place("ca"), now).unwrap());
        let signer = TokenSigner::load_or_create(&place("token-key.pem")).unwrap();
        std::fs::write(place("keys.pem"), signer.public_key_pem()).unwrap();
        let authenticator = JwtAuthenticator::new(place("keys.pem"), "https://lab", "istio-ca").unwrap();
        let service = Service::new(
            authority.clone(),
            Arc::new(authenticator),
            Arc::new(Pods),
            ServiceConfig::default(),
        );
        let service = change(service);
        let made = authority
            .issue_server_certificate(&[NAME.to_owned()], Duration::from_secs(3600), now)
            .unwrap();
        let acceptor = Acceptor::new(ServerIdentity::from_pem(&made.chain_pem, &made.key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
            authority,
            signer,
            address,
            directory,
            server,
        }
    }

    pub(crate) fn root_file(&self) -> PathBuf {
        self.directory.path().join("ca/root-cert.pem")
    }

    pub(crate) fn token(&self, caller: &Caller, change: impl FnOnce(&mut TokenSubject)) -> String {
        let mut subject = TokenSubject {
            issuer: "https://lab".to_owned(),
            audience: "istio-ca".to_owned(),
            caller: caller.clone(),
            service_account_uid: String::new(),
            node_uid: String::new(),
            ttl: Duration::from_secs(600),
        };
        change(&mut subject);
        self.signer.sign(&subject, SystemTime::now()).unwrap()
    }

    pub(crate) fn config(&self, token: Token, roots: &Path) -> ChannelConfig {
        let mut config = ChannelConfig::new(
            format!("https://{}", self.address),
            RootSource::Path(roots.to_owned()),
        );
        config.alternative_name = Some(NAME.to_owned());
        config.token = token;
        config.cluster_id = "Kubernetes".to_owned();
        config
    }
}

impl Drop for Rig {
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
