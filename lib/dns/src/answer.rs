//! The pure part: which queries are answered here, and with what.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::message::{FORMAT_ERROR, HEADER, MAX_MESSAGE, Raw};

#[cfg(test)]
pub(crate) mod tests;

/// How long a client may keep an answer.
pub const ANSWER_TTL: Duration = Duration::from_secs(30);

/// The longest datagram given as an answer, whatever the client says it can take: what fits in a frame of every
/// usual link, so that nothing is fragmented (RFC 9715 §3.1 has 1400).
const MAX_DATAGRAM: u16 = 1400;

/// The shortest limit that a client can set (RFC 1035 §2.3.4).
const MIN_DATAGRAM: u16 = 512;

/// Which names are known, and their addresses.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a name, both families, in the order to be given out.
    ///
    /// `name` is lower case and without a trailing dot. `None`: the name is not ours. `Some` of nothing: it exists
    /// and has no address.
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// Whether a name that [`Resolver::lookup`] does not know certainly does not exist, because it lies in a zone
    /// that is served here alone. Otherwise the query is forwarded.
    fn zone_authoritative(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// How a query arrived. It bounds the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram: the answer is cut to what the client says it can take.
    Udp,
    /// A stream: up to 65535 bytes.
    Tcp,
}

impl Transport {
    /// `udp` or `tcp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Ask the servers of resolv.conf, with the bytes as they came.
    Forward,
    /// Not a query: drop it in silence, since an answer could go round in circles.
    Refuse,
}

/// Decides about one query. Never panics, whatever the bytes.
///
/// A name that is known is answered for every type, so that a query about it never leaves the mesh: types other than
/// A, AAAA and ANY get an empty answer. What is not an ordinary question (other operations and classes, several
/// questions) is forwarded.
pub fn answer(query: &[u8], resolver: &dyn Resolver, transport: Transport) -> Reply {
    let Some(raw) = Raw::new(query) else {
        return Reply::Refuse;
    };
    if raw.is_response() {
        return Reply::Refuse;
    }
    if raw.operation() != 0 || raw.questions() != 1 {
        return Reply::Forward;
    }
    let Some(question) = question(query) else {
        return Reply::Answer(raw.failure(FORMAT_ERROR));
    };
    if question.query_class() != DNSClass::IN {
        return Reply::Forward;
    }
    let name = question.name().to_lowercase().to_ascii();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.is_empty() {
        return Reply::Forward;
    }
    let (code, addresses) = match resolver.lookup(name) {
        Some(addresses) => (ResponseCode::NoError, addresses),
        None if resolver.zone_authoritative(name) => (ResponseCode::NXDomain, Vec::new()),
        None => return Reply::Forward,
    };
    // Only now does the rest of the query matter: it says how much the client can take.
    let Ok(whole) = Message::from_vec(query) else {
        return Reply::Answer(raw.failure(FORMAT_ERROR));
    };
    let bytes = build(&whole, question, code, &addresses, transport);
    Reply::Answer(bytes.unwrap_or_else(|| raw.failure(crate::message::SERVER_FAILURE)))
}

/// The record type asked for, as it is written in zone files.
pub(crate) fn query_type(query: &[u8]) -> &'static str {
    let known = Raw::new(query)
        .filter(|raw| raw.questions() == 1)
        .and_then(|_| question(query));
    match known.map(|question| question.query_type()) {
        None | Some(RecordType::Unknown(_)) => "unknown",
        Some(known) => known.into(),
    }
}

/// The first question of a message that has one.
fn question(query: &[u8]) -> Option<Query> {
    let mut decoder = BinDecoder::new(query);
    decoder.read_slice(HEADER).ok()?;
    Query::read(&mut decoder).ok()
}

fn build(
    query: &Message,
    question: Query,
    code: ResponseCode,
    addresses: &[IpAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        answer.set_edns(edns);
    }
    if query.version() > 0 {
        // RFC 6891 §6.1.3: an extension of a later version is answered by the version that is spoken.
        answer.metadata.response_code = ResponseCode::BADVERS;
    } else {
        let ttl = u32::try_from(ANSWER_TTL.as_secs()).unwrap_or(u32::MAX);
        answer.add_answers(addresses.iter().filter_map(|address| {
            let data = record_data(*address, question.query_type())?;
            Some(Record::from_rdata(question.name().clone(), ttl, data))
        }));
    }
    answer.add_query(question);
    let limit = match transport {
        Transport::Udp => query.max_payload().clamp(MIN_DATAGRAM, MAX_DATAGRAM).into(),
        Transport::Tcp => MAX_MESSAGE,
    };
    within(answer, limit)
}

fn record_data(address: IpAddr, asked: RecordType) -> Option<RData> {
    match (address, asked) {
        (IpAddr::V4(address), RecordType::A | RecordType::ANY) => Some(RData::A(A(address))),
        (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    }
}

/// The message in at most `limit` bytes: records that don't fit are left out, and it says so.
fn within(mut answer: Message, limit: usize) -> Option<Vec<u8>> {
    // The shortest record: a pointer to the name, type, class, TTL, length, and an IPv4 address.
    const RECORD: usize = 16;
    if answer.answers.len() > limit / RECORD {
        answer.answers.truncate(limit / RECORD);
        answer.metadata.truncation = true;
    }
    loop {
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        let longest = if answer.answers.is_empty() {
            return None;
        } else {
            RECORD + 12
        };
        let surplus = (bytes.len() - limit).div_ceil(longest);
        answer.metadata.truncation = true;
        let keep = answer.answers.len().saturating_sub(surplus);
        answer.answers.truncate(keep);
    }
}
