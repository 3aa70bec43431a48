//! The pure part: which queries are answered here, and with what.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};

use crate::message::{FORMAT_ERROR, HEADER, MAX_MESSAGE, Raw, SERVER_FAILURE};

#[cfg(test)]
pub(crate) mod tests;

/// How long a client may keep an answer.
pub const ANSWER_TTL: Duration = Duration::from_secs(30);

/// How long a client may keep the answer that a name has no record of a type, or does not exist.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);

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

    /// Whether a name lies in a zone that is served here alone: then what is not known does not exist. Otherwise the
    /// query is forwarded.
    fn zone_authoritative(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The zone that a known name belongs to, for the SOA record of a negative answer; the name itself unless said
    /// otherwise.
    fn zone<'n>(&'n self, name: &'n str) -> &'n str {
        name
    }

    /// Waits until it is certain whether a name that [`Resolver::lookup`] does not know belongs to the mesh; the name
    /// is looked up again after that. `None`: it is certain already. The implementor bounds the wait.
    fn demand(&self, name: &str) -> Option<BoxFuture<'_, ()>> {
        let _ = name;
        None
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
    /// Ask a name server, with the bytes as they came.
    Forward(Forward),
    /// Not a query: drop it in silence, since an answer could go round in circles.
    Refuse,
}

/// How a query is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The name asked for, where it is not known here: it may become known on demand ([`Resolver::demand`]).
    pub unknown: Option<String>,
    /// What to answer if the server says that the name does not exist: it does here, only not with this type. To say
    /// that there is no such name would deny its addresses too (RFC 8020 §2).
    pub exists: Option<Vec<u8>>,
}

/// Decides about one query. Never panics, whatever the bytes.
///
/// Addresses of a known name are answered here, and so is the absence of a family or of the records that would lead
/// around them (HTTPS, SVCB). Everything else is forwarded: unknown names, other types, operations and classes, several
/// questions.
pub fn answer(query: &[u8], resolver: &dyn Resolver, transport: Transport) -> Reply {
    let Some(raw) = Raw::new(query) else {
        return Reply::Refuse;
    };
    if raw.is_response() {
        return Reply::Refuse;
    }
    if raw.operation() != 0 || raw.questions() != 1 {
        return Reply::Forward(Forward::default());
    }
    let Some(question) = question(query) else {
        return Reply::Answer(failure(query, raw, FORMAT_ERROR));
    };
    if question.query_class() != DNSClass::IN {
        return Reply::Forward(Forward::default());
    }
    let name = question.name().to_lowercase().to_ascii();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.is_empty() {
        return Reply::Forward(Forward::default());
    }
    let ours = resolver.zone_authoritative(name);
    let (code, addresses) = match resolver.lookup(name) {
        Some(addresses) => (ResponseCode::NoError, addresses),
        None if ours => (ResponseCode::NXDomain, Vec::new()),
        None => {
            return Reply::Forward(Forward {
                unknown: Some(name.to_owned()),
                exists: None,
            });
        }
    };
    // Only now does the rest of the query matter: it says how much the client can take.
    let Ok(whole) = Message::from_vec(query) else {
        return Reply::Answer(failure(query, raw, FORMAT_ERROR));
    };
    let local = ours || is_answered_here(question.query_type());
    let zone = resolver.zone(name);
    let bytes = build(&whole, question, code, &addresses, zone, transport)
        .unwrap_or_else(|| failure(query, raw, SERVER_FAILURE));
    if local {
        Reply::Answer(bytes)
    } else {
        Reply::Forward(Forward {
            unknown: None,
            exists: Some(bytes),
        })
    }
}

/// An answer that carries nothing but a response code and the question, and the extension if the query has it
/// (RFC 6891 §6.1.1).
pub(crate) fn failure(query: &[u8], raw: Raw<'_>, code: u8) -> Vec<u8> {
    let mut answer = raw.failure(code);
    if let Some(asked) = Message::from_vec(query).ok().and_then(|query| query.edns)
        && let Ok(record) = extension(&asked).to_bytes()
    {
        // The count of additional records ends the header.
        answer[HEADER - 1] = 1;
        answer.extend(record);
    }
    answer
}

fn is_answered_here(asked: RecordType) -> bool {
    matches!(
        asked,
        RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::HTTPS | RecordType::SVCB
    )
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
    zone: &str,
    transport: Transport,
) -> Option<Vec<u8>> {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = query.metadata.checking_disabled;
    answer.metadata.response_code = code;
    if let Some(asked) = &query.edns {
        answer.set_edns(extension(asked));
    }
    if query.version() > 0 {
        // RFC 6891 §6.1.3: an extension of a later version is answered by the version that is spoken.
        answer.metadata.response_code = ResponseCode::BADVERS;
    } else {
        let ttl = seconds(ANSWER_TTL);
        answer.add_answers(addresses.iter().filter_map(|address| {
            let data = record_data(*address, question.query_type())?;
            Some(Record::from_rdata(question.name().clone(), ttl, data))
        }));
        if answer.answers.is_empty() {
            answer.add_authorities(authority(zone));
        }
    }
    answer.add_query(question);
    let limit = match transport {
        Transport::Udp => query.max_payload().clamp(MIN_DATAGRAM, MAX_DATAGRAM).into(),
        Transport::Tcp => MAX_MESSAGE,
    };
    within(answer, limit)
}

/// The extension of our answer to a query that has it; DO is copied (RFC 3225 §3).
fn extension(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// What says for how long a negative answer holds (RFC 2308 §3); nothing where the zone's name leaves no room for the
/// names in it.
fn authority(zone: &str) -> Option<Record> {
    const SERIAL: u32 = 1;
    const REFRESH: i32 = 7200;
    const RETRY: i32 = 1800;
    const EXPIRE: i32 = 86_400;
    let absolute = |name: String| Name::from_ascii(name).ok();
    let ttl = seconds(NEGATIVE_TTL);
    let soa = SOA::new(
        absolute(format!("ns.dns.{zone}."))?,
        absolute(format!("hostmaster.{zone}."))?,
        SERIAL,
        REFRESH,
        RETRY,
        EXPIRE,
        ttl,
    );
    let owner = absolute(format!("{zone}."))?;
    Some(Record::from_rdata(owner, ttl, RData::SOA(soa)))
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
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
