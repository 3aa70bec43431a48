//! Short questions over HTTP/1.1: the status sockets of the mesh's programs and readiness.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

const BODY_MAX: usize = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks once on this connection; status and body.
pub(crate) async fn get_on<IO>(
    io: IO,
    host: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Bytes), String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    ask_on(io, Method::GET, host, path, timeout).await
}

async fn ask_on<IO>(
    io: IO,
    method: Method,
    host: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Bytes), String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        let driver = tokio::spawn(driver);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("connection", "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX)
            .collect()
            .await?
            .to_bytes();
        driver.abort();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

/// Asks a program for JSON over its unix socket.
pub(crate) async fn get_json(socket: &Path, path: &str) -> Result<Value, String> {
    let (status, answer) = ask_json(socket, Method::GET, path).await?;
    if status != 200 {
        return Err(format!("{} answers {status} to {path}", socket.display()));
    }
    Ok(answer)
}

/// Asks a program for JSON over its unix socket, by any method; status and answer.
pub(crate) async fn ask_json(socket: &Path, method: Method, path: &str) -> Result<(u16, Value), String> {
    let connection = UnixStream::connect(socket)
        .await
        .map_err(|error| format!("{}: {error}", socket.display()))?;
    let (status, body) = ask_on(connection, method, "localhost", path, PATIENCE).await?;
    let answer = serde_json::from_slice(&body)
        .map_err(|error| format!("{} answers {status}, not JSON: {error}", socket.display()))?;
    Ok((status, answer))
}
