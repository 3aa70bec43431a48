//! DNS: what pods ask, and the files that say whom to ask.

use std::net::IpAddr;

use dns::{Reply, Resolver, Transport};

struct Known;

impl Resolver for Known {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        match name {
            "a.b" => Some(vec![[10, 0, 0, 1].into()]),
            "many.b" => Some((0..200).map(|last| [10, 0, 1, last].into()).collect()),
            "none.b" => Some(Vec::new()),
            _ => None,
        }
    }

    fn zone_authoritative(&self, name: &str) -> bool {
        name.ends_with(".b")
    }
}

/// A query: the answer has its id, says that it is one, and fits the transport.
pub(crate) fn query(input: &[u8]) -> bool {
    let mut answered = false;
    for (transport, limit) in [(Transport::Udp, 4096), (Transport::Tcp, 65_535)] {
        if let Reply::Answer(answer) = dns::answer(input, &Known, transport) {
            assert_eq!(answer.get(..2), input.get(..2), "the id is kept");
            assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
            assert!(answer.len() <= limit, "{transport:?}: {} bytes", answer.len());
            answered = true;
        }
    }
    answered
}

/// Messages on a stream, each behind its length.
pub(crate) fn framing(input: &[u8]) -> bool {
    crate::tunnels::run(dns::fuzzing::framing(input))
}

/// An answer of a name server: a query after its length in one byte, then the answer.
pub(crate) fn answer(input: &[u8]) -> bool {
    let Some((length, rest)) = input.split_first() else {
        return false;
    };
    let (query, answer) = rest.split_at(rest.len().min(usize::from(*length)));
    let is_answer = dns::is_answer(answer, query, [0x12, 0x34]);
    if is_answer {
        assert!(answer.starts_with(&[0x12, 0x34]) && answer[2] & 0x80 != 0);
        assert!(
            !dns::is_answer(answer, query, [0x12, 0x35]),
            "an id that was not asked"
        );
    }
    is_answer
}

pub(crate) fn resolv_conf(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let servers = dns::name_servers(&text);
    assert!(servers.len() <= text.lines().count());
    !servers.is_empty()
}
