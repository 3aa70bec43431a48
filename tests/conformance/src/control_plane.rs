use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::authority::{Authority, Claims};
use crate::ca::Signing;
use crate::failure::{Doing, Outcome};
use crate::namespace::Namespace;
use crate::network::GATEWAY_V4;
use crate::tls::{TlsSettings, TlsStream};
use crate::xds::Discovery;

/// The port of discovery and signing.
pub const CONTROL_PLANE_PORT: u16 = 15012;

/// Discovery and signing behind one TLS port of a node, as the subject's control plane. Ends with the value.
#[derive(Debug)]
pub struct ControlPlane {
    /// Workloads, services and policies.
    pub discovery: Discovery,
    /// Certificates.
    pub signing: Signing,
    tasks: Vec<JoinHandle<()>>,
}

impl ControlPlane {
    /// Serves on [`CONTROL_PLANE_PORT`] of every address of the node.
    pub fn start(node: &Namespace, authority: &Arc<Authority>) -> Outcome<ControlPlane> {
        let discovery = Discovery::new();
        let signing = Signing::new(authority.clone());
        let shown = authority.sign(&Claims::hosts(&[
            "localhost",
            "127.0.0.1",
            &GATEWAY_V4.to_string(),
        ]))?;
        let settings = Arc::new(TlsSettings::grpc(shown));
        let listener = node
            .listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, CONTROL_PLANE_PORT)))
            .doing("listening as the control plane")?;
        let (ready, accepted) = mpsc::channel(16);
        let accepting = tokio::spawn(accept(listener, settings, ready));
        let server = Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(discovery.clone()))
            .add_service(IstioCertificateServiceServer::new(signing.clone()));
        let serving = tokio::spawn(async move {
            // It ends when the value does.
            let _ = server.serve_with_incoming(ReceiverStream::new(accepted)).await;
        });
        Ok(ControlPlane {
            discovery,
            signing,
            tasks: vec![accepting, serving],
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.discovery.cut();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    settings: Arc<TlsSettings>,
    ready: mpsc::Sender<io::Result<GrpcStream>>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (settings, ready) = (settings.clone(), ready.clone());
        // Who does not manage the handshake is not served; the check sees that nothing came.
        tokio::spawn(async move {
            if let Ok(stream) = TlsStream::accept(socket, &settings).await {
                let _ = ready.send(Ok(GrpcStream(stream))).await;
            }
        });
    }
}

/// A stream as tonic takes it.
struct GrpcStream(TlsStream);

impl Connected for GrpcStream {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for GrpcStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for GrpcStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
