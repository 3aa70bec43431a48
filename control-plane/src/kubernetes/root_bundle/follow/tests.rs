//! How often a server is asked that does not do as it should. Time is simulated, so the server is too.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body;
use tonic::codegen::Service;

use super::*;

/// How long each server is followed.
const HOUR: Duration = Duration::from_secs(3600);
/// After so many lists the server answers no more: without any pause time would stand still.
const ENOUGH: usize = 10_000;

/// How a server answers.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Watches end after this time, without a word.
    WatchesLast(Duration),
    /// Watches are refused with this code.
    RefusesWatches(u16),
    /// Lists are.
    RefusesLists(u16),
    /// A list takes so long.
    ListsTake(Duration),
}

#[derive(Clone)]
struct Server {
    manner: Manner,
    lists: Arc<AtomicUsize>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn json(code: u16, value: &serde_json::Value) -> Answer {
    let body = Full::from(value.to_string()).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn refusal(code: u16) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code,
    });
    json(code, &status)
}

impl Server {
    async fn answer(self, is_watch: bool) -> Answer {
        if is_watch {
            return match self.manner {
                Manner::RefusesWatches(code) => refusal(code),
                Manner::WatchesLast(life) => watch(life),
                _ => watch(Duration::from_secs(WATCH_SECONDS.into())),
            };
        }
        if self.lists.fetch_add(1, Ordering::Relaxed) >= ENOUGH {
            std::future::pending::<()>().await;
        }
        match self.manner {
            Manner::RefusesLists(code) => return refusal(code),
            Manner::ListsTake(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        let list = serde_json::json!({
            "kind": "NamespaceList", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": [],
        });
        json(200, &list)
    }
}

/// A watch that says nothing until it ends.
fn watch(life: Duration) -> Answer {
    let silence = futures_util::stream::once(async move {
        tokio::time::sleep(life).await;
        Ok(Frame::data(Bytes::new()))
    });
    Response::new(StreamBody::new(silence).boxed_unsync())
}

impl Service<Request<Body>> for Server {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(is_watch).await) })
    }
}

/// How often a server is asked for everything in an hour, and how often that is told.
async fn lists_in_an_hour(manner: Manner) -> (usize, usize) {
    let lists = Arc::new(AtomicUsize::new(0));
    let server = Server {
        manner,
        lists: lists.clone(),
    };
    let api = Api::<Namespace>::all(kube::Client::new(server, "default"));
    let (sender, mut told) = mpsc::channel(ENOUGH);
    let following = tokio::spawn(follow(api, None, |event| event, sender));
    tokio::time::sleep(HOUR).await;
    following.abort();
    let mut listed = 0;
    while let Ok(event) = told.try_recv() {
        listed += usize::from(matches!(event, Event::Listed(_)));
    }
    (lists.load(Ordering::Relaxed), listed)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_ever_more_seldom() {
    for manner in [
        Manner::WatchesLast(Duration::ZERO),
        Manner::WatchesLast(Duration::from_secs(1)),
        Manner::RefusesWatches(403),
        Manner::RefusesWatches(410),
        Manner::RefusesLists(503),
    ] {
        let (lists, _) = lists_in_an_hour(manner).await;
        // Once in 15 to 30 s, after a few that follow each other sooner.
        assert!(
            (100..260).contains(&lists),
            "{manner:?}: {lists} lists in an hour"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_well_is_asked_again_after_each_watch() {
    let (lists, _) = lists_in_an_hour(Manner::WatchesLast(Duration::from_secs(WATCH_SECONDS.into()))).await;
    assert!((14..=16).contains(&lists), "{lists} lists in an hour");
    // Also where it has very many objects to look through.
    let (_, listed) = lists_in_an_hour(Manner::ListsTake(Duration::from_secs(60))).await;
    assert!((11..=12).contains(&listed), "{listed} lists in an hour");
}
