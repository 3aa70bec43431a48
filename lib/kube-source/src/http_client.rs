//! The client of the API: kube's, over connections of our own.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use tower::BoxError;

use crate::body::Bounded;
use crate::config::ApiServer;
use crate::connect::Connector;
use crate::retry_after::{self, Answer};
use crate::token::Token;

/// How long the server may take until its answer begins. API servers end a request themselves after a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);
/// HTTP/2 keepalive: how often the server is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// How we call ourselves.
const AGENT: &str = concat!("ztunnel-kube-source/", env!("CARGO_PKG_VERSION"));

/// A client of the server. It dials with the first request, and belongs to the runtime that it is made in.
pub(crate) fn client(server: &ApiServer) -> kube::Client {
    let (interval, timeout) = KEEPALIVE;
    let connections = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(interval)
        .http2_keep_alive_timeout(timeout)
        .build(Connector::new(server));
    let requests = Requests {
        connections,
        base: server.url.clone(),
        token: server.token.clone(),
    };
    kube::Client::new(requests, objects::DEFAULT_NAMESPACE)
}

/// Sends requests to one server: completes their URL, adds the token, bounds the answer.
#[derive(Clone)]
struct Requests {
    connections: Client<Connector, Body>,
    base: Uri,
    token: Token,
}

#[derive(Debug, thiserror::Error)]
#[error("the server did not begin to answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
struct Unanswered;

impl tower::Service<Request<Body>> for Requests {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let requests = self.clone();
        Box::pin(async move { requests.send(request).await })
    }
}

impl Requests {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.split('&').any(|pair| pair == "watch=true");
        *request.uri_mut() = absolute(&self.base, request.uri())?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(token) = self.token.header().await? {
            headers.insert(AUTHORIZATION, token);
        }
        let answering = self.connections.request(request);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answering)
            .await
            .map_err(|_| Unanswered)??;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.token.refused();
        }
        retry_after::noted(answer.map(|body| Bounded::new(body, is_watch))).await
    }
}

/// The path and query of a request behind the URL of the server, which may have a path of its own.
fn absolute(base: &Uri, relative: &Uri) -> Result<Uri, http::Error> {
    let prefix = base.path().trim_end_matches('/');
    let rest = relative.path_and_query().map_or("/", |path| path.as_str());
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(format!("{prefix}{rest}").parse()?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_server_stays() {
        let cases = [
            ("http://a:1", "http://a:1/api/v1/pods?watch=true"),
            ("https://a/b/c/", "https://a/b/c/api/v1/pods?watch=true"),
        ];
        for (base, whole) in cases {
            let relative = Uri::from_static("/api/v1/pods?watch=true");
            assert_eq!(absolute(&base.parse().unwrap(), &relative).unwrap(), whole);
        }
    }
}
