use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;
use crate::tls::{Facts, TlsSettings, TlsStream};
use crate::tunnel::Tunnel;
use crate::wait::within;

/// No single step may take longer.
const DEADLINE: Duration = Duration::from_secs(15);
const WINDOW: u32 = 4 << 20;

/// One tunnel opened by the check, with whatever certificate and whatever requests.
#[derive(Clone, Debug)]
pub struct HboneClient {
    requests: SendRequest<Bytes>,
    pings: mpsc::Sender<oneshot::Sender<Outcome>>,
    ended: watch::Receiver<Option<String>>,
    /// The local address of its socket.
    pub local: SocketAddr,
    /// What TLS agreed on.
    pub facts: Facts,
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// What can be sent and received behind it.
    pub tunnel: Tunnel,
}

impl HboneClient {
    /// TCP, TLS and HTTP/2 from inside a namespace. An error is also what the server says after the handshake proper: in
    /// TLS 1.3 a client hears only then whether its certificate was taken.
    pub async fn open(from: &Namespace, to: SocketAddr, tls: &TlsSettings) -> Outcome<HboneClient> {
        let opening = async {
            let socket = from.connect(to).await.doing(format!("connecting to {to}"))?;
            let local = socket.local_addr()?;
            let stream = TlsStream::connect(socket, tls).await?;
            HboneClient::over(stream, local).await
        };
        within("opening a tunnel", DEADLINE, opening).await?
    }

    /// HTTP/2 over a TLS session that is open already.
    pub async fn over<S>(stream: TlsStream<S>, local: SocketAddr) -> Outcome<HboneClient>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let facts = stream.facts();
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_concurrent_streams(1000)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let mut pinger = connection.ping_pong().doing("pings")?;
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let reason = match connection.await {
                Ok(()) => "closed".to_owned(),
                Err(error) => Failure::from(error).to_string(),
            };
            let _ = end.send(Some(reason));
        });
        let (pings, mut asked) = mpsc::channel::<oneshot::Sender<Outcome>>(1);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                let pong = pinger.ping(h2::Ping::opaque()).await;
                let _ = answer.send(pong.map(|_| ()).map_err(Failure::from));
            }
        });
        let client = HboneClient {
            requests,
            pings,
            ended,
            local,
            facts,
        };
        if let Err(unanswered) = client.ping().await {
            let reason = client.closed(Duration::from_secs(1)).await;
            return Err(Failure::new(format!(
                "the server ended the tunnel at once: {}",
                reason.unwrap_or_else(|_| unanswered.to_string())
            )));
        }
        Ok(client)
    }

    /// CONNECT to this authority.
    pub async fn connect(&self, authority: &str) -> Outcome<Answer> {
        self.connect_with(authority, &[]).await
    }

    /// As [`HboneClient::connect`], with headers.
    pub async fn connect_with(&self, authority: &str, headers: &[(&str, &str)]) -> Outcome<Answer> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(authority.parse::<Uri>()?);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.request(request.body(())?).await
    }

    /// Any request.
    pub async fn request(&self, request: Request<()>) -> Outcome<Answer> {
        let asking = async {
            let what = format!("{} {}", request.method(), request.uri());
            let mut requests = self.requests.clone().ready().await?;
            let (answer, send) = requests.send_request(request, false)?;
            let (head, receive) = answer.await.doing(what)?.into_parts();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                tunnel: Tunnel::new(send, receive),
            })
        };
        within("the answer to a request", DEADLINE, asking).await?
    }

    /// Sends CONNECT; when this returns the server has read it, whether or not it has answered.
    pub async fn begin(&self, authority: &str) -> Outcome<JoinHandle<Outcome<Answer>>> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(authority.parse::<Uri>()?)
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (answer, send) = requests.send_request(request, false)?;
        let answering = tokio::spawn(async move {
            let (head, receive) = answer.await?.into_parts();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                tunnel: Tunnel::new(send, receive),
            })
        });
        self.ping().await?;
        Ok(answering)
    }

    /// Sends a PING and waits for its answer.
    pub async fn ping(&self) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let pinging = async {
            self.pings.send(answer).await.doing("sending a ping")?;
            answered.await.doing("waiting for the answer to a ping")?
        };
        within("the answer to a ping", DEADLINE, pinging).await?
    }

    /// How many streams the server lets this client have at once.
    pub fn max_streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Waits until the tunnel has ended; why.
    pub async fn closed(&self, limit: Duration) -> Outcome<String> {
        let mut ended = self.ended.clone();
        let waiting = async {
            let reason = ended.wait_for(Option::is_some).await?;
            Ok(reason.clone().unwrap_or_default())
        };
        within("the end of a tunnel", limit, waiting).await?
    }

    /// Whether the tunnel has ended.
    pub fn is_closed(&self) -> bool {
        self.ended.borrow().is_some()
    }
}

impl Answer {
    /// Fails unless the status is this one.
    pub fn expect(self, status: u16) -> Outcome<Answer> {
        if self.status == status {
            return Ok(self);
        }
        Err(Failure::new(format!("status {}, expected {status}", self.status)))
    }
}
