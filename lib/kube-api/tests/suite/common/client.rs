//! A client that sees status codes and single lines of watches.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube_api::ApiServer;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    address: std::net::SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

/// An open watch.
pub(crate) struct Watch {
    body: Incoming,
    rest: BytesMut,
}

impl Client {
    pub(crate) fn new(server: &ApiServer) -> Client {
        Client {
            address: server.address(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, "application/json", Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, "application/json", Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Option<Value>) -> Answer {
        self.send("DELETE", path, "application/json", body).await
    }

    /// `kind` is `json`, `merge`, `strategic-merge` or `apply`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.send("PATCH", path, &media, Some(body)).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, media: &str, body: Option<Value>) -> Answer {
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        self.send_text(method, path, &[("content-type", media)], text)
            .await
    }

    pub(crate) async fn send_text(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let exchange = async {
            let response = self.request(method, path, headers, body).await;
            let code = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
            Answer { code, body }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }

    /// Opens a watch; the path has its query, without `watch`.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let sign = if path.contains('?') { '&' } else { '?' };
        let response = self
            .request("GET", &format!("{path}{sign}watch=1"), &[], String::new())
            .await;
        assert_eq!(response.status(), 200);
        Watch {
            body: response.into_body(),
            rest: BytesMut::new(),
        }
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(driver);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "test")
            .header("user-agent", "test/1");
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }
}

impl Watch {
    /// The next line as type and object; nothing when the watch has ended, an error when it was broken.
    pub(crate) async fn try_next(&mut self) -> Result<Option<(String, Value)>, hyper::Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end);
                self.rest.advance(1);
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                let word = event["type"].as_str().unwrap().to_owned();
                return Ok(Some((word, event["object"].take())));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("an event in time");
            match frame {
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().unwrap()),
                Some(Err(error)) => return Err(error),
                None => return Ok(None),
            }
        }
    }

    /// The next line as type and name.
    pub(crate) async fn next(&mut self) -> (String, String) {
        let (word, object) = self.event().await;
        (
            word,
            object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        )
    }

    pub(crate) async fn event(&mut self) -> (String, Value) {
        self.try_next().await.unwrap().expect("one more event")
    }
}
