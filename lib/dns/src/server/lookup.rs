//! Finding the addresses of a name on behalf of a client that speaks no DNS.

use std::net::IpAddr;
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

use super::{Server, Shared, prefer};
use crate::answer::answer;
use crate::{ForwardError, Reply, Transport};

/// The most addresses of a name that are given.
pub const MAX_FOUND: usize = 64;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The text is no domain name.
    #[error("{0:?} is no domain name")]
    NotAName(String),
    /// There is no such name.
    #[error("there is no name {0}")]
    NoSuchName(String),
    /// The name exists and has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// Too many queries are being forwarded.
    #[error("too many DNS queries are being forwarded; try again")]
    Busy,
    /// No server could be asked.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The server has trouble.
    #[error("the name server answered {code} for {name}")]
    Server {
        /// The name asked for.
        name: String,
        /// The response code's name.
        code: String,
    },
    /// The answer could not be read.
    #[error("the answer for {0} cannot be read")]
    Malformed(String),
    /// The query could not be written.
    #[error("a query for {0} cannot be written")]
    Query(String),
}

impl Server {
    /// The addresses of `name`, which is complete (no search path applies): those of the mesh, else those that the
    /// forwarder's own servers know. IPv4 first. Counted as queries that came by stream.
    ///
    /// # Errors
    /// When it has none, or nobody could be asked.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let wanted = Name::from_ascii(name).map_err(|_| LookupError::NotAName(name.to_owned()))?;
        let (v4, v6) = tokio::join!(
            self.shared.find(&wanted, RecordType::A),
            self.shared.find(&wanted, RecordType::AAAA)
        );
        match (v4, v6) {
            (Ok(mut found), Ok(more)) => {
                found.extend(more);
                found.truncate(MAX_FOUND);
                if found.is_empty() {
                    Err(LookupError::NoAddress(name.to_owned()))
                } else {
                    Ok(found)
                }
            }
            // A server that fails for one family only is one of those that do not know IPv6.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

impl Shared {
    async fn find(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, LookupError> {
        let text = || name.to_ascii();
        let query = query(name, family).ok_or_else(|| LookupError::Query(text()))?;
        let info = self.observe(&query, Transport::Tcp);
        let reply = match answer(&query, &*self.resolver, Transport::Tcp) {
            Reply::Forward(forward) => self.settle(&query, forward, Transport::Tcp).await,
            known => known,
        };
        let bytes = match reply {
            Reply::Answer(bytes) => bytes,
            Reply::Refuse => return Err(LookupError::Query(text())),
            Reply::Forward(forward) => {
                let Ok(_permit) = self.forwards.try_acquire() else {
                    self.observer.overloaded(info);
                    return Err(LookupError::Busy);
                };
                self.observer.upstream_request(info);
                let began = Instant::now();
                match self.forwarder.forward(&query, None).await {
                    Ok(answer) => {
                        self.observer.upstream_answered(info, began.elapsed());
                        prefer(forward.exists, answer)
                    }
                    Err(error) => {
                        self.observer.upstream_failure(info);
                        return Err(error.into());
                    }
                }
            }
        };
        let answer = Message::from_vec(&bytes).map_err(|_| LookupError::Malformed(text()))?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(found(&answer)),
            ResponseCode::NXDomain => Err(LookupError::NoSuchName(text())),
            other => Err(LookupError::Server {
                name: text(),
                code: other.to_string(),
            }),
        }
    }
}

/// The addresses in an answer. A recursive server has followed aliases already (RFC 1034 section 4.3.2).
fn found(answer: &Message) -> Vec<IpAddr> {
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    addresses.take(MAX_FOUND).collect()
}

fn query(name: &Name, family: RecordType) -> Option<Vec<u8>> {
    let mut name = name.clone();
    name.set_fqdn(true);
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, family));
    query.to_bytes().ok()
}
