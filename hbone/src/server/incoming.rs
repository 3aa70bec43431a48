use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Waker};

use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::MAX_AUTHORITY;
use crate::budget::Piece;
use crate::connection::Shared;
use crate::{Header, Tunnel, headers};

/// The headers that peers of this protocol send. What else a request has is not kept: many may wait for their answer,
/// and each would hold the whole frame that it came in.
const KEPT: [&str; 3] = ["baggage", "forwarded", "traceparent"];

/// How long a header may be, all its values together and each a little longer than it is (as in RFC 7541 §4.1), bytes.
/// Values beyond that are not kept.
pub const MAX_HEADER: usize = 8 * 1024 + VALUE_COST;

const VALUE_COST: usize = 32;

/// A CONNECT that waits for its answer. Dropped without one, it is reset with CONNECT_ERROR.
pub struct Incoming {
    authority: String,
    headers: HeaderMap,
    respond: h2::server::SendResponse<Piece>,
    recv: Option<RecvStream>,
    shared: Arc<Shared>,
}

impl Incoming {
    /// What the peer wants to reach, as sent; at most [`MAX_AUTHORITY`] bytes, otherwise unchecked.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The first value of this request header of the protocol, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        headers::first(&self.headers, name)
    }

    /// The values of this request header of the protocol in order, as sent, up to [`MAX_HEADER`].
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        headers::values(&self.headers, name)
    }

    /// Completes when the peer has given up this request or the connection is over: the work for it can stop.
    pub async fn abandoned(&mut self) {
        let _ = poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }

    /// Answers 200 and opens the tunnel. To be called once the application is connected.
    pub fn accept(mut self, headers: impl IntoIterator<Item = Header>) -> Result<Tunnel, AnswerError> {
        let send = self.answer(StatusCode::OK, headers, false)?;
        // Taken only here, so that it is there; a second answer is impossible since `self` is consumed.
        let recv = self.recv.take().ok_or(AnswerError::Gone)?;
        Ok(Tunnel::new(send, recv, Arc::clone(&self.shared)))
    }

    /// Answers with another status and ends the stream.
    pub fn refuse(
        mut self,
        status: u16,
        headers: impl IntoIterator<Item = Header>,
    ) -> Result<(), AnswerError> {
        let status = StatusCode::from_u16(status).map_err(|_| AnswerError::Invalid("status".into()))?;
        self.answer(status, headers, true)?;
        self.recv = None;
        Ok(())
    }

    fn answer(
        &mut self,
        status: StatusCode,
        headers: impl IntoIterator<Item = Header>,
        end: bool,
    ) -> Result<h2::SendStream<Piece>, AnswerError> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() =
            headers::encode(headers).map_err(|name| AnswerError::Invalid(format!("header {name}").into()))?;
        self.respond
            .send_response(response, end)
            .map_err(|_| AnswerError::Gone)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.recv.is_some() {
            let mut context = Context::from_waker(Waker::noop());
            if self.respond.poll_reset(&mut context).is_ready() {
                self.shared.count_abandoned();
            }
            self.respond.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

/// Why a CONNECT could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The peer has reset the request, or the connection is over.
    #[error("the peer no longer waits for an answer")]
    Gone,
    /// The status or a header cannot be sent.
    #[error("the answer cannot be sent: {0}")]
    Invalid(Cow<'static, str>),
}

/// Answers what is not a plain CONNECT with 400; the library has refused malformed requests before.
pub(super) fn admit(
    request: http::Request<RecvStream>,
    mut respond: h2::server::SendResponse<Piece>,
    shared: &Arc<Shared>,
) -> Option<Incoming> {
    let (head, recv) = request.into_parts();
    let plain = head.method == Method::CONNECT && head.extensions.get::<h2::ext::Protocol>().is_none();
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match authority.filter(|authority| plain && authority.len() <= MAX_AUTHORITY) {
        Some(authority) => Some(Incoming {
            authority: authority.to_owned(),
            headers: kept(&head.headers),
            respond,
            recv: Some(recv),
            shared: Arc::clone(shared),
        }),
        None => {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            // A peer that is gone needs no answer.
            let _ = respond.send_response(response, true);
            None
        }
    }
}

/// Copies of those headers that are kept.
fn kept(all: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in KEPT {
        let mut room = MAX_HEADER;
        for value in all.get_all(name) {
            let Some(left) = room.checked_sub(value.len() + VALUE_COST) else {
                break;
            };
            room = left;
            // It was read from bytes that were allowed.
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                kept.append(HeaderName::from_static(name), copy);
            }
        }
    }
    kept
}
