//! How long a server wants to be left alone, where it says so by the header `Retry-After` alone (RFC 9110, section
//! 10.2.3). kube's client hands on no headers of errors, but the `Status` that the Kubernetes API answers with has a
//! field for it.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use serde_json::{Value, json};
use tower::BoxError;

use crate::body::Bounded;

/// The longest error that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// An answer as it comes, or an error that was read.
pub(crate) type Answer = Either<Bounded, Full<Bytes>>;

/// The answer; what the header says is in its `Status`.
pub(crate) async fn noted(answer: Response<Bounded>) -> Result<Response<Answer>, BoxError> {
    let Some(seconds) = seconds(&answer) else {
        return Ok(answer.map(Either::Left));
    };
    let (mut head, body) = answer.into_parts();
    let text = Limited::new(body, MAX_ERROR_BYTES).collect().await?.to_bytes();
    let status = with_seconds(&text, head.status, seconds).to_string();
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, Either::Right(Full::from(status))))
}

/// Servers of the API say seconds; a date is not looked at.
fn seconds<B>(answer: &Response<B>) -> Option<u32> {
    let says_so = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !says_so.contains(&answer.status()) {
        return None;
    }
    answer
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn with_seconds(text: &[u8], code: StatusCode, seconds: u32) -> Value {
    let mut status = match serde_json::from_slice(text) {
        Ok(Value::Object(status)) if status.get("kind").is_some_and(|kind| kind == "Status") => status,
        // Whoever is in between answers with words of its own.
        _ => {
            let mut status = serde_json::Map::new();
            let words = String::from_utf8_lossy(text);
            status.insert("kind".to_owned(), json!("Status"));
            status.insert("apiVersion".to_owned(), json!("v1"));
            status.insert("status".to_owned(), json!("Failure"));
            status.insert("message".to_owned(), json!(words.trim()));
            status.insert("code".to_owned(), json!(code.as_u16()));
            status
        }
    };
    let details = status.entry("details").or_insert_with(|| json!({}));
    if let Some(details) = details.as_object_mut() {
        details
            .entry("retryAfterSeconds")
            .or_insert_with(|| json!(seconds));
    }
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::ListParams;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use crate::ApiServer;
    use crate::error::{Failure, Sort};

    /// What a list comes to that a server answers with these words.
    async fn answered(answer: &str) -> Failure {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = ApiServer::at(&url, None, None).unwrap().client();
        let error = Api::<Pod>::all(client)
            .list(&ListParams::default())
            .await
            .unwrap_err();
        server.await.unwrap();
        Failure::of(&error)
    }

    #[tokio::test]
    async fn the_header_says_how_long_to_wait() {
        let plain = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 30\r\n\r\n\
                     Too many requests, please wait";
        let failure = answered(plain).await;
        assert_eq!(
            (failure.sort, failure.retry_after),
            (Sort::Busy, Duration::from_secs(7))
        );
        assert_eq!(failure.problem, "Too many requests, please wait (429)");

        let body =
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"starting","code":503}"#;
        let length = body.len();
        let status = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 3\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let failure = answered(&status).await;
        assert_eq!(
            (failure.sort, failure.retry_after),
            (Sort::Unreachable, Duration::from_secs(3))
        );
        assert_eq!(failure.problem, "starting (503)");
        // A date, and no header at all.
        for header in ["Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", ""] {
            let answer = format!("HTTP/1.1 429 Too Many Requests\r\n{header}Content-Length: 4\r\n\r\nbusy");
            let failure = answered(&answer).await;
            assert_eq!((failure.sort, failure.retry_after), (Sort::Busy, Duration::ZERO));
        }
    }
}
