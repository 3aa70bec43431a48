//! Whether the agent is ready and alive, for the kubelet's probes: HTTP on a port of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::status::Board;

/// 200 once every pod of the node is known.
pub const READY: &str = "/healthz/ready";
/// 200 while the process answers.
pub const LIVE: &str = "/healthz/live";

/// Connections at a time; of more, the one that has been there longest has to go.
const MAX_CONNECTIONS: usize = 32;
/// How long one connection may stay.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Answers probes for ever. Whoever holds connections open without asking keeps no probe from its answer: the kubelet
/// would end the agent.
pub(crate) async fn serve(listener: TcpListener, board: Board) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection for a probe: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let board = board.clone();
        open.retain(|task| !task.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let (code, text) = answer(request.uri().path(), &board);
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = code;
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // Whatever ends it, the client knows.
            let _ = tokio::time::timeout(CONNECTION_TIME, serving).await;
        });
        open.push_back(task.abort_handle());
    }
}

fn answer(path: &str, board: &Board) -> (StatusCode, String) {
    match path {
        LIVE => (StatusCode::OK, "alive\n".to_owned()),
        READY => {
            // Anybody may ask: what exactly an API server answered is in the log and on the status socket.
            match board.progress() {
                (true, None) => (StatusCode::OK, "ready\n".to_owned()),
                // Who was enrolled stays so, and nobody gains by the agent being taken for unready.
                (true, Some(trouble)) => (
                    StatusCode::OK,
                    format!(
                        "ready, but objects cannot be read at present: {}\n",
                        trouble.as_str()
                    ),
                ),
                (false, trouble) => {
                    let why = trouble.map(|trouble| format!(": {}", trouble.as_str()));
                    (
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!(
                            "the pods of this node are not known yet{}\n",
                            why.unwrap_or_default()
                        ),
                    )
                }
            }
        }
        _ => (
            StatusCode::NOT_FOUND,
            format!("only {READY} and {LIVE} are served here\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::status::Trouble;

    #[tokio::test]
    async fn probes_learn_whether_the_pods_are_known() {
        let board = Board::new("node-a", "iptables");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, board.clone()));
        let ask = async |path: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert!(ask(READY).await.starts_with("HTTP/1.1 503"));
        assert!(ask(LIVE).await.starts_with("HTTP/1.1 200"));
        board.failed(Trouble::ApiServer, "no permission at 10.0.0.1");
        let answer = ask(READY).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("not known yet: ApiServer\n"),
            "{answer}"
        );
        board.caught_up(1);
        assert!(ask(READY).await.starts_with("HTTP/1.1 200"));
        // Later trouble with the objects takes nobody out of service.
        board.failed(Trouble::Unreadable, "/objects: no such file");
        let answer = ask(READY).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("at present: Unreadable\n"),
            "{answer}"
        );
        // Whoever may open the socket learns all.
        assert_eq!(board.read().error.as_deref(), Some("/objects: no such file"));
        assert!(ask("/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn who_holds_connections_open_keeps_no_probe_from_its_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Board::new("node-a", "iptables")));
        let connect = async || tokio::net::TcpStream::connect(address).await.unwrap();
        let ask = async |mut stream: tokio::net::TcpStream| {
            let request = format!("GET {LIVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        };
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(connect().await);
        }
        assert!(ask(connect().await).await.starts_with("HTTP/1.1 200"));
        // One made room, the others were not waited for: they may still ask.
        let last = idle.pop().unwrap();
        assert!(ask(last).await.starts_with("HTTP/1.1 200"));
    }
}
