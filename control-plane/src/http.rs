//! Small pages over HTTP/1.1: one request a connection, each within bounds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;

/// How many questions are answered at once; of more, the one that has been there longest has to go.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to ask.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may last, until the answer is read.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// The pause after the system could not give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
        Answer {
            status,
            content_type: "application/json",
            body: format!("{body}\n"),
        }
    }

    pub(crate) fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
        Answer {
            status,
            content_type,
            body,
        }
    }
}

/// Something that answers questions.
pub(crate) trait Pages: Clone + Send + Sync + 'static {
    fn answer(&self, question: Question) -> impl Future<Output = Answer> + Send;
}

/// Something that connections come from.
pub(crate) trait Accepts: Send {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accepts for TcpListener {
    type Stream = TcpStream;

    async fn accept_one(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accepts for UnixListener {
    type Stream = UnixStream;

    async fn accept_one(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Answers questions until the future is dropped. Whoever holds connections open without asking keeps nobody from an
/// answer: the kubelet would take the program for dead.
pub(crate) async fn serve(listener: impl Accepts, pages: impl Pages) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept_one().await {
            Ok(stream) => {
                open.retain(|task| !task.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    tracing::debug!("{MAX_CONNECTIONS} questions are open: the oldest is given up");
                    oldest.abort();
                }
                let pages = pages.clone();
                let task = tokio::spawn(async move {
                    if tokio::time::timeout(ANSWER_DEADLINE, converse(stream, pages))
                        .await
                        .is_err()
                    {
                        tracing::debug!("a client did not read its answer in time");
                    }
                });
                open.push_back(task.abort_handle());
            }
            Err(error) => {
                tracing::warn!("cannot accept a question: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, pages: impl Pages) {
    let service = service_fn(|request: Request<Incoming>| {
        let question = Question {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
        };
        let answering = pages.answer(question);
        async move { Ok::<_, Infallible>(response(answering.await)) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK_DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a question was not answered: {error}");
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = answer.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

#[cfg(test)]
mod tests;
