//! The body of a discovery stream's answer: responses as they come, each handed out in pieces as the connection takes
//! them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::pieces::Pieces;
use super::session::Response;

/// Ends with the status that comes in place of a response, or well when the sender is dropped.
pub(crate) struct ResponseBody {
    responses: mpsc::Receiver<Result<Response, Status>>,
    pieces: Option<Pieces>,
    is_over: bool,
}

impl ResponseBody {
    pub(crate) fn new(responses: mpsc::Receiver<Result<Response, Status>>) -> ResponseBody {
        ResponseBody {
            responses,
            pieces: None,
            is_over: false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some(piece) = self.pieces.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            self.pieces = None;
            let status = match ready!(self.responses.poll_recv(context)) {
                Some(Ok(response)) => match Pieces::new(response) {
                    Ok(pieces) => {
                        self.pieces = Some(pieces);
                        continue;
                    }
                    Err(error) => Status::internal(error.to_string()),
                },
                Some(Err(status)) => status,
                None => Status::new(Code::Ok, ""),
            };
            self.is_over = true;
            let mut trailers = HeaderMap::new();
            let written = status.add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
    }
}
