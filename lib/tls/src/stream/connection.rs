//! The TLS library's state machine, client or server, as one type.

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::buffer::Buffer;

/// A TLS connection without any I/O.
pub(crate) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do when the connection is ready to send.
#[derive(Clone, Copy)]
pub(super) enum Send<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something; take another step.
    Again,
    /// Plaintext was delivered.
    Data,
    /// All input is used up; the handshake goes on when more arrives.
    NeedInput,
    /// All input is used up; data may be sent, and was, if asked for.
    Ready,
    /// The peer has sent its close_notify.
    PeerClosed,
    /// Both sides have sent theirs.
    Closed,
}

impl Connection {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(tls) => tls,
            Self::Server(tls) => tls,
        }
    }

    /// What the peer showed: its certificate first.
    pub(super) fn peer_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.common().peer_certificates()
    }

    /// Takes one step on `input`; returns how many bytes of it are used up.
    ///
    /// Ciphertext goes to `output`, plaintext to `deliver`.
    pub(super) fn step(
        &mut self,
        input: &mut [u8],
        output: &mut Buffer,
        send: Send<'_>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Client(tls) => settle(tls.process_tls_records(input), output, send, deliver),
            Self::Server(tls) => settle(tls.process_tls_records(input), output, send, deliver),
        }
    }
}

fn settle<Side>(
    status: UnbufferedStatus<'_, '_, Side>,
    output: &mut Buffer,
    send: Send<'_>,
    deliver: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let mut used = status.discard;
    let step = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut records)) => {
            let mut outcome = Ok(Step::Data);
            while let Some(record) = records.next_record() {
                match record {
                    Ok(record) => {
                        used += record.discard;
                        deliver(record.payload);
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            outcome
        }
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            encode(output, |spare| match message.encode(spare) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            })
            .map(|()| Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(message)) => {
            // The output is one queue: what is in it is sent before anything encrypted later.
            message.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match send {
            Send::Nothing => Ok(()),
            Send::Data(data) => encode(output, |spare| size(traffic.encrypt(data, spare))),
            Send::CloseNotify => encode(output, |spare| size(traffic.queue_close_notify(spare))),
        }
        .map(|()| Step::Ready),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::NeedInput),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Step::Closed),
        // Early data is never enabled.
        Ok(other) => Err(Error::General(format!("unexpected state {other:?}"))),
    };
    (used, step)
}

/// Writes into the free part of `output`, made larger when `write` says that it is too small.
fn encode(
    output: &mut Buffer,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    loop {
        match write(output.spare_mut()) {
            Ok(written) => {
                output.advance(written);
                return Ok(());
            }
            Err(Some(needed)) if needed > output.spare_mut().len() => output.reserve(needed),
            Err(_) => return Err(Error::EncryptError),
        }
    }
}

fn size(outcome: Result<usize, EncryptError>) -> Result<usize, Option<usize>> {
    match outcome {
        Ok(written) => Ok(written),
        Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
        Err(EncryptError::EncryptExhausted) => Err(None),
    }
}
