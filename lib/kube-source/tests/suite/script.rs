//! An API server that says exactly what a test wants, byte by byte.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::support::PATIENCE;

/// A request, as the script sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) authorization: Option<String>,
    /// The how manieth watch or other request it is of this path, from 0.
    pub(crate) turn: usize,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.query("watch") == "true"
    }

    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// An answer.
pub(crate) enum Answer {
    Json(u16, Value),
    /// Lines, for as long as the sender lives.
    Lines(mpsc::UnboundedReceiver<String>),
}

/// The other end of a watch.
pub(crate) type Events = mpsc::UnboundedSender<String>;

pub(crate) fn watch() -> (Events, Answer) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Answer::Lines(receiver))
}

/// A watch that tells of nothing. It stays open as long as the test runs.
pub(crate) fn quiet() -> Answer {
    let (sender, answer) = watch();
    std::mem::forget(sender);
    answer
}

pub(crate) fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

pub(crate) fn list(version: &str, items: &[Value], token: &str) -> Answer {
    let metadata = json!({ "resourceVersion": version, "continue": token });
    Answer::Json(
        200,
        json!({ "apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items }),
    )
}

pub(crate) fn status(code: u16, reason: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": format!("the script says {reason}") })
}

pub(crate) fn refusal(code: u16, reason: &str) -> Answer {
    Answer::Json(code, status(code, reason))
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    news: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        Server::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let (asked, news) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, script, asked.clone(), news.clone()));
        Server {
            address,
            asked,
            news,
            _task: task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until a request came that fits.
    pub(crate) async fn until(&self, fits: impl Fn(&Asked) -> bool) -> Asked {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if let Some(found) = self.asked().into_iter().find(&fits) {
                    return found;
                }
                news.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| panic!("no such request among {:#?}", self.asked()))
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>, asked: Arc<Mutex<Vec<Asked>>>, news: Arc<Notify>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (script, asked, news) = (script.clone(), asked.clone(), news.clone());
        let service = service_fn(move |request| answer(request, script.clone(), asked.clone(), news.clone()));
        connections.spawn(async move {
            // A client that goes away is no error of the test.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    news: Arc<Notify>,
) -> Result<Response<Either<Full<Bytes>, impl hyper::body::Body<Data = Bytes, Error = Infallible>>>, Infallible>
{
    let (head, _) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().split('&');
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.replace("%3D", "="))
    };
    let mut new = Asked {
        path: head.uri.path().to_owned(),
        query: query.map(pair).collect(),
        authorization: head
            .headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned()),
        turn: 0,
    };
    let answer = {
        let mut asked = asked.lock().unwrap();
        let same = |old: &&Asked| old.path == new.path && old.is_watch() == new.is_watch();
        new.turn = asked.iter().filter(same).count();
        asked.push(new.clone());
        script(&new)
    };
    news.notify_waiters();
    Ok(match answer {
        Answer::Json(code, value) => {
            let mut response = Response::new(Either::Left(Full::from(value.to_string())));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            response
        }
        Answer::Lines(lines) => {
            let frames = futures_util::stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await?;
                Some((Ok(Frame::data(Bytes::from(line))), lines))
            });
            Response::new(Either::Right(StreamBody::new(frames.boxed())))
        }
    })
}
