//! Metrics, as a scraper takes them.

use super::pieces::{self, Text};
use super::{Body, page};
use crate::context::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use hyper::{Request, Response, StatusCode};
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(super) async fn answer<B>(
    context: &Arc<Context>,
    request: &Request<B>,
    large: Arc<Semaphore>,
) -> Response<Body> {
    let gzip = accepts_gzip(request.headers());
    let shared = context.clone();
    let body = pieces::body(large, move |out| {
        shared.observe();
        if gzip {
            let mut compressed = GzEncoder::new(out, Compression::fast());
            Text::write(&mut compressed, |text| shared.metrics.encode_to(text))?;
            compressed.finish().map(drop)
        } else {
            Text::write(out, |text| shared.metrics.encode_to(text))
        }
    });
    let mut response = page(StatusCode::OK, telemetry::OPENMETRICS_CONTENT_TYPE, body.await);
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether the client takes gzip (RFC 9110 section 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            named && !refused
        })
}
