//! A gRPC channel to the control plane: TLS with the server's name verified, a bearer token with every call.
//!
//! [`ChannelConfig::channel`] gives a [`Channel`] for the generated clients. It dials when the first call is
//! made and again whenever the connection is lost; root certificates are read at each dial and the token at each
//! call, so that both may be renewed on disk at any time.
//!
//! This crate deliberately knows nothing of what is called, retries nothing, and keeps no token in memory longer
//! than a call takes. gRPC's own TLS is not used: the handshake is `tls`'s.

mod config;
mod connect;
mod token;

pub use config::{Channel, ChannelConfig, ConfigError};
pub use connect::DialError;
pub use token::{Token, TokenError};

/// The reasons inside a failed call, outermost first, as one line for people.
///
/// gRPC's own text for a connection that could not be made is only "transport error"; the words that name the
/// file, the address or the certificate are in the causes beneath it.
pub fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let words = error.to_string();
        if !words.is_empty() && !text.contains(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        cause = error.source();
    }
    if text.is_empty() {
        status.code().to_string()
    } else {
        text
    }
}
