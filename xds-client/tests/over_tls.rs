//! The public entry against a control plane over TLS, as the product has it.

#![allow(clippy::unwrap_used)] // The helpers of a test may panic as the test itself may.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use grpc_channel::{ChannelConfig, Token};
use prost_types::Any;
use proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use tls::server_auth::{Acceptor, RootSource, ServerIdentity};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use xds_client::{ClientConfig, Handler, Node, Rejection, Update, run};

const POLICY: &str = "type.example/Policy";
const LONG: Duration = Duration::from_secs(20);

/// A TLS stream that tonic takes.
struct Io(tls::Stream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Sends one resource on each stream and notes what it is sent.
struct OnePolicy {
    tokens: Arc<Mutex<Vec<String>>>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for OnePolicy {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        self.tokens.lock().unwrap().push(token.unwrap_or_default());
        let (responses, stream) = mpsc::channel(4);
        let seen = self.requests.clone();
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if request.response_nonce.is_empty() {
                    responses.send(Ok(one_policy())).await.ok();
                }
                seen.send(request).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn one_policy() -> DeltaDiscoveryResponse {
    let resource = Resource {
        name: "shop/allow".into(),
        version: "7".into(),
        // More than one frame and one TLS record.
        resource: Some(Any {
            type_url: POLICY.into(),
            value: vec![b'x'; 5 << 20],
        }),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        type_url: POLICY.into(),
        nonce: "n".into(),
        resources: vec![resource],
        ..DeltaDiscoveryResponse::default()
    }
}

/// Serves TLS for 127.0.0.1; gives the root certificate's PEM.
async fn serve(service: OnePolicy) -> (SocketAddr, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let chain = params
        .signed_by(&key, &rcgen::Issuer::new(root, root_key))
        .unwrap()
        .pem();
    let key = tls::PrivateKey::from_pkcs8(key.serialize_der());
    let acceptor = Arc::new(Acceptor::new(ServerIdentity::from_pem(&chain, &key).unwrap()));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (streams, incoming) = mpsc::channel::<io::Result<Io>>(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, streams) = (acceptor.clone(), streams.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    streams.send(Ok(Io(stream))).await.ok();
                }
            });
        }
    });
    tokio::spawn(
        Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(service))
            .serve_with_incoming(ReceiverStream::new(incoming)),
    );
    (address, root_pem)
}

struct Sizes(mpsc::Sender<usize>);

impl Handler for Sizes {
    async fn apply(&mut self, update: Update) -> Vec<Rejection> {
        for resource in update.resources {
            self.0.send(resource.payload.len()).await.ok();
        }
        Vec::new()
    }
}

fn config(address: SocketAddr, root: &Path, token: &Path) -> ClientConfig {
    let mut channel = ChannelConfig::new(format!("https://{address}"), RootSource::Path(root.to_owned()));
    channel.token = Token::File(token.to_owned());
    ClientConfig {
        types: vec![POLICY.into()],
        offered_types: Vec::new(),
        on_demand: None,
        held: Vec::new(),
        node: Node::default(),
        channel,
        observer: None,
    }
}

#[tokio::test]
async fn waits_for_its_root_certificate_then_receives_and_acknowledges() {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let (requests, mut seen) = mpsc::channel(8);
    let (address, root_pem) = serve(OnePolicy {
        tokens: tokens.clone(),
        requests,
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let (root, token) = (directory.path().join("root.pem"), directory.path().join("token"));
    std::fs::write(&token, "secret").unwrap();

    let (sizes, mut applied) = mpsc::channel(8);
    let (status, mut watched) = watch::channel(xds_client::Status::default());
    let config = config(address, &root, &token);
    let client = tokio::spawn(async move {
        run(config, Sizes(sizes), status).await;
    });

    // The root certificate is not there: an error that names the file, and no stream.
    let failed = timeout(LONG, watched.wait_for(|status| status.last_error.is_some()))
        .await
        .unwrap()
        .unwrap();
    let error = failed.last_error.clone().unwrap();
    drop(failed);
    assert!(error.contains("root.pem"), "{error}");
    assert!(seen.try_recv().is_err());

    std::fs::write(&root, root_pem).unwrap();
    assert_eq!(timeout(LONG, applied.recv()).await.unwrap(), Some(5 << 20));
    assert_eq!(
        timeout(LONG, seen.recv()).await.unwrap().unwrap().type_url,
        POLICY
    );
    assert_eq!(
        timeout(LONG, seen.recv()).await.unwrap().unwrap().response_nonce,
        "n"
    );
    let synced = timeout(LONG, watched.wait_for(|status| !status.synced.is_empty()))
        .await
        .unwrap()
        .unwrap();
    assert!(synced.connected && synced.last_error.is_none());
    drop(synced);
    assert_eq!(*tokens.lock().unwrap(), ["Bearer secret"]);
    client.abort();
}

#[tokio::test]
async fn a_control_plane_of_another_root_is_not_believed() {
    let (requests, mut seen) = mpsc::channel(8);
    let (address, _) = serve(OnePolicy {
        tokens: Arc::default(),
        requests,
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let (root, token) = (directory.path().join("root.pem"), directory.path().join("token"));
    std::fs::write(&token, "secret").unwrap();
    let mut other = rcgen::CertificateParams::default();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    std::fs::write(&root, other.pem()).unwrap();

    let (sizes, mut applied) = mpsc::channel(8);
    let (status, mut watched) = watch::channel(xds_client::Status::default());
    let config = config(address, &root, &token);
    let client = tokio::spawn(async move {
        run(config, Sizes(sizes), status).await;
    });
    let failed = timeout(LONG, watched.wait_for(|status| status.last_error.is_some()))
        .await
        .unwrap()
        .unwrap();
    let error = failed.last_error.clone().unwrap();
    drop(failed);
    assert!(
        error.contains("cannot be reached") && error.contains("certificate"),
        "{error}"
    );
    assert!(!error.contains("secret"));
    assert!(seen.try_recv().is_err() && applied.try_recv().is_err());
    client.abort();
}

/// Passes connections on to a server that may be exchanged for another.
struct Forwarder {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    open: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Forwarder {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let forwarder = Self {
            address: listener.local_addr().unwrap(),
            target: Arc::new(Mutex::new(target)),
            open: Arc::default(),
        };
        let (target, open) = (forwarder.target.clone(), forwarder.open.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let to = *target.lock().unwrap();
                let passing = tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
                    // Until either end goes, or it is exchanged.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
                open.lock().unwrap().push(passing.abort_handle());
            }
        });
        forwarder
    }

    /// New connections go to `target`, open ones are cut.
    fn exchange(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
        for connection in self.open.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

#[tokio::test]
async fn a_changed_root_file_counts_for_the_next_connection() {
    let (requests, _seen) = mpsc::channel(8);
    let service = || OnePolicy {
        tokens: Arc::default(),
        requests: requests.clone(),
    };
    let (first, first_root) = serve(service()).await;
    let (second, second_root) = serve(service()).await;
    let forwarder = Forwarder::to(first).await;
    let directory = tempfile::tempdir().unwrap();
    let (root, token) = (directory.path().join("root.pem"), directory.path().join("token"));
    std::fs::write(&token, "secret").unwrap();
    std::fs::write(&root, first_root).unwrap();

    let (sizes, mut applied) = mpsc::channel(8);
    let (status, mut watched) = watch::channel(xds_client::Status::default());
    let config = config(forwarder.address, &root, &token);
    let client = tokio::spawn(async move {
        run(config, Sizes(sizes), status).await;
    });
    assert_eq!(timeout(LONG, applied.recv()).await.unwrap(), Some(5 << 20));

    // The control plane comes back with a certificate of another root.
    forwarder.exchange(second);
    let distrust = |status: &xds_client::Status| {
        let error = status.last_error.as_deref().unwrap_or_default();
        error.contains("certificate")
    };
    timeout(LONG, watched.wait_for(distrust)).await.unwrap().unwrap();
    assert!(applied.try_recv().is_err());
    std::fs::write(&root, second_root).unwrap();
    assert_eq!(timeout(LONG, applied.recv()).await.unwrap(), Some(5 << 20));
    client.abort();
}
