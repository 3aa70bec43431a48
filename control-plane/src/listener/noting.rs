//! What requests tell of a connection: that somebody who is known uses it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::seats::{Standing, UnderWay};

/// The header by which a call ends that was refused before it began.
const GRPC_STATUS: &str = "grpc-status";

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) standing: Arc<Standing>,
}

/// A service that answers nobody without a valid token. Where it goes on with a call, the caller is known. It finds the
/// caller's address (`SocketAddr`) among the extensions of a request.
#[derive(Clone)]
pub(crate) struct Noting<S>(pub(crate) S);

impl<S: NamedService> NamedService for Noting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Noting<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.address);
        }
        let answering = self.0.call(request);
        Box::pin(async move {
            let response = answering.await?;
            Ok(match peer {
                Some(peer) if !response.headers().contains_key(GRPC_STATUS) => {
                    let _under_way = peer.standing.request();
                    response.map(|body| Body::new(Answer { body, _under_way }))
                }
                _ => response,
            })
        })
    }
}

/// An answer; while it lasts, the request is under way.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
