use std::collections::BTreeMap;

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;

pub(crate) struct Names {
    known: BTreeMap<String, Vec<IpAddr>>,
    zone: Option<&'static str>,
}

impl Names {
    pub(crate) fn new(names: &[(&str, &[&str])], zone: Option<&'static str>) -> Self {
        let known = names.iter().map(|(name, addresses)| {
            (
                (*name).to_owned(),
                addresses.iter().map(|address| address.parse().unwrap()).collect(),
            )
        });
        Self {
            known: known.collect(),
            zone,
        }
    }
}

impl Resolver for Names {
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.known.get(name).cloned()
    }

    fn zone_authoritative(&self, name: &str) -> bool {
        self.zone
            .is_some_and(|zone| name == zone || name.ends_with(&format!(".{zone}")))
    }

    fn zone<'n>(&'n self, name: &'n str) -> &'n str {
        let cluster = "cluster.local";
        if name.ends_with(cluster) { cluster } else { name }
    }
}

fn names() -> Names {
    let web: &[&str] = &["10.96.0.7", "fd00::7"];
    Names::new(
        &[
            ("web.shop.svc.cluster.local", web),
            ("v4.shop.svc.cluster.local", &["10.96.0.8"]),
            ("none.shop.svc.cluster.local", &[]),
            ("api.example.org", &["10.96.0.9"]),
        ],
        None,
    )
}

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_payload(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn ask_with(names: &Names, query: &Message, transport: Transport) -> Message {
    let bytes = query.to_vec().unwrap();
    match answer(&bytes, names, transport) {
        Reply::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_with(&names(), &query(name, kind), Transport::Udp)
}

pub(crate) fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| match &record.data {
            RData::A(address) => address.to_string(),
            RData::AAAA(address) => address.to_string(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_service_is_answered_by_family() {
    let answer = ask("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(addresses(&answer), ["10.96.0.7"]);
    assert_eq!(answer.answers[0].ttl, 30);
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
    assert!(answer.metadata.recursion_available && !answer.metadata.truncation);
    assert!(answer.edns.is_none(), "none was asked for");
    assert_eq!(
        addresses(&ask("web.shop.svc.cluster.local.", RecordType::AAAA)),
        ["fd00::7"]
    );
    assert_eq!(
        addresses(&ask("web.shop.svc.cluster.local.", RecordType::ANY)),
        ["10.96.0.7", "fd00::7"]
    );
}

/// Owner, time to live, and the time for which "no" holds.
fn negative(message: &Message) -> (String, u32, u32) {
    let [record] = &message.authorities[..] else {
        panic!("{message:?}")
    };
    let RData::SOA(soa) = &record.data else {
        panic!("{record:?}")
    };
    (record.name.to_ascii(), record.ttl, soa.minimum)
}

#[test]
fn what_a_known_name_does_not_have_is_an_empty_answer() {
    for (name, kind, zone) in [
        ("v4.shop.svc.cluster.local.", RecordType::AAAA, "cluster.local."),
        ("none.shop.svc.cluster.local.", RecordType::A, "cluster.local."),
        ("none.shop.svc.cluster.local.", RecordType::ANY, "cluster.local."),
        ("web.shop.svc.cluster.local.", RecordType::HTTPS, "cluster.local."),
        ("web.shop.svc.cluster.local.", RecordType::SVCB, "cluster.local."),
        ("api.example.org.", RecordType::AAAA, "api.example.org."),
    ] {
        let answer = ask(name, kind);
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NoError,
            "{name} {kind}"
        );
        assert!(answer.answers.is_empty(), "{name} {kind}");
        assert_eq!(negative(&answer), (zone.to_owned(), 5, 5), "{name} {kind}");
    }
    assert!(
        ask("web.shop.svc.cluster.local.", RecordType::A)
            .authorities
            .is_empty()
    );
}

#[test]
fn other_types_of_a_known_name_are_forwarded_and_its_existence_is_not_denied() {
    for kind in [
        RecordType::SRV,
        RecordType::TXT,
        RecordType::MX,
        RecordType::Unknown(4711),
    ] {
        let query = query("web.shop.svc.cluster.local.", kind);
        let Reply::Forward(forward) = answer(&query.to_vec().unwrap(), &names(), Transport::Udp) else {
            panic!("{kind}")
        };
        assert_eq!(forward.unknown, None);
        let exists = Message::from_vec(&forward.exists.unwrap()).unwrap();
        assert_eq!(exists.metadata.response_code, ResponseCode::NoError, "{kind}");
        assert!(exists.answers.is_empty());
        assert_eq!(negative(&exists).0, "cluster.local.");
    }
}

#[test]
fn a_name_without_room_for_an_authority_gets_none() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let names = Names::new(&[(&long, &["10.0.0.1"])], None);
    let message = ask_with(
        &names,
        &query(&format!("{long}."), RecordType::AAAA),
        Transport::Udp,
    );
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(message.answers.is_empty() && message.authorities.is_empty());
}

#[test]
fn names_are_compared_without_case_and_given_back_with_it() {
    let answer = ask("WeB.sHop.SVC.cluster.local.", RecordType::A);
    assert_eq!(addresses(&answer), ["10.96.0.7"]);
    assert_eq!(answer.queries[0].name().to_ascii(), "WeB.sHop.SVC.cluster.local.");
    assert_eq!(answer.answers[0].name.to_ascii(), "WeB.sHop.SVC.cluster.local.");
}

#[test]
fn everything_else_is_forwarded() {
    let names = names();
    let forwarded = |message: &Message| answer(&message.to_vec().unwrap(), &names, Transport::Udp);
    let as_it_is = Reply::Forward(Forward::default());
    let unknown = |name: &str| {
        Reply::Forward(Forward {
            unknown: Some(name.to_owned()),
            exists: None,
        })
    };
    assert_eq!(
        forwarded(&query("Example.org.", RecordType::A)),
        unknown("example.org")
    );
    assert_eq!(
        forwarded(&query("other.shop.svc.cluster.local.", RecordType::A)),
        unknown("other.shop.svc.cluster.local")
    );
    assert_eq!(forwarded(&query(".", RecordType::NS)), as_it_is);
    let known = query("web.shop.svc.cluster.local.", RecordType::A);
    for operation in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(6)] {
        let mut other = known.clone();
        other.metadata.op_code = operation;
        assert_eq!(forwarded(&other), as_it_is, "{operation:?}");
    }
    let mut two = known.clone();
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(forwarded(&two), as_it_is);
    let mut chaos = known.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(forwarded(&chaos), as_it_is);
    // A label that holds a dot is another name.
    let mut dotted = known.to_vec().unwrap();
    dotted[HEADER] = 8;
    dotted[HEADER + 4] = b'.';
    assert!(matches!(
        answer(&dotted, &names, Transport::Udp),
        Reply::Forward(_)
    ));
}

#[test]
fn a_zone_of_our_own_denies_names() {
    let names = Names::new(
        &[("web.shop.svc.cluster.local", &["10.96.0.7"])],
        Some("cluster.local"),
    );
    let missing = ask_with(
        &names,
        &query("nope.shop.svc.cluster.local.", RecordType::A),
        Transport::Udp,
    );
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert!(missing.metadata.authoritative && missing.answers.is_empty());
    assert_eq!(negative(&missing), ("cluster.local.".to_owned(), 5, 5));
    let there = ask_with(
        &names,
        &query("web.shop.svc.cluster.local.", RecordType::MX),
        Transport::Udp,
    );
    assert_eq!(there.metadata.response_code, ResponseCode::NoError);
    let outside = query("notcluster.local.", RecordType::A).to_vec().unwrap();
    assert!(matches!(
        answer(&outside, &names, Transport::Udp),
        Reply::Forward(_)
    ));
}

#[test]
fn answers_are_cut_to_what_the_client_takes() {
    let many: Vec<String> = (0..300)
        .map(|i| format!("10.0.{}.{}", i / 250, i % 250))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names = Names::new(&[("big.svc", &many)], None);
    let plain = query("big.svc.", RecordType::A);
    for (query, limit) in [
        (plain.clone(), 512),
        (with_payload(plain.clone(), 100), 512),
        (with_payload(plain.clone(), 1232), 1232),
        (with_payload(plain.clone(), 65_535), MAX_DATAGRAM),
    ] {
        let Reply::Answer(bytes) = answer(&query.to_vec().unwrap(), &names, Transport::Udp) else {
            panic!()
        };
        let limit = usize::from(limit);
        assert!(bytes.len() <= limit, "{} of {limit}", bytes.len());
        assert!(
            bytes.len() > limit - 16 * 3,
            "{} of {limit}: more would have fit",
            bytes.len()
        );
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.metadata.truncation);
        assert_eq!(message.edns.is_some(), query.edns.is_some());
        assert_eq!(addresses(&message), many[..message.answers.len()]);
    }
    let stream = ask_with(&names, &plain, Transport::Tcp);
    assert_eq!(stream.answers.len(), 300);
    assert!(!stream.metadata.truncation);
    // Even a stream has its limit.
    let huge: Vec<&str> = many.iter().copied().cycle().take(10_000).collect();
    let huge = Names::new(&[("big.svc", &huge)], None);
    let stream = ask_with(&huge, &plain, Transport::Tcp);
    assert!(stream.metadata.truncation);
    // The encoder points back to the name only in the first 16 KiB, so this is fewer than 65535 / 16.
    assert!(stream.answers.len() > 2500, "{}", stream.answers.len());
}

#[test]
fn a_later_version_of_the_extension_is_told_which_is_spoken() {
    let mut asked = with_payload(query("web.shop.svc.cluster.local.", RecordType::A), 1232);
    asked.edns.as_mut().unwrap().set_version(1);
    let answer = ask_with(&names(), &asked, Transport::Udp);
    let edns = answer.edns.unwrap();
    assert_eq!((edns.version(), edns.rcode_high()), (0, 1), "BADVERS is 16");
    assert!(answer.answers.is_empty());
}

#[test]
fn what_the_client_says_about_checking_is_given_back() {
    let mut asked = with_payload(query("web.shop.svc.cluster.local.", RecordType::A), 1232);
    asked.metadata.checking_disabled = true;
    asked.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = ask_with(&names(), &asked, Transport::Udp);
    assert!(answer.metadata.checking_disabled);
    assert!(answer.edns.unwrap().flags().dnssec_ok);
    let bytes = asked.to_vec().unwrap();
    let failure = failure(&bytes, Raw::new(&bytes).unwrap(), SERVER_FAILURE);
    let failure = Message::from_vec(&failure).unwrap();
    assert_eq!(failure.metadata.response_code, ResponseCode::ServFail);
    assert!(failure.edns.unwrap().flags().dnssec_ok);
}

#[test]
fn what_is_no_query_is_dropped_or_told_so() {
    let names = names();
    assert_eq!(answer(&[], &names, Transport::Udp), Reply::Refuse);
    assert_eq!(answer(&[0; 11], &names, Transport::Udp), Reply::Refuse);
    let mut response = query("web.shop.svc.cluster.local.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(
        answer(&response.to_vec().unwrap(), &names, Transport::Udp),
        Reply::Refuse
    );
    let whole = query("web.shop.svc.cluster.local.", RecordType::A)
        .to_vec()
        .unwrap();
    // Cut within the question, and with records announced that are not there.
    let cut = &whole[..whole.len() - 3];
    let mut lying = whole.clone();
    lying[11] = 1;
    for (bytes, questions) in [(cut, 0), (&lying[..], 1)] {
        let Reply::Answer(answer) = answer(bytes, &names, Transport::Udp) else {
            panic!()
        };
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.queries.len(), questions);
    }
}

#[test]
fn types_are_named_for_counting() {
    let of = |kind| query_type(&query("a.b.", kind).to_vec().unwrap());
    assert_eq!(of(RecordType::AAAA), "AAAA");
    assert_eq!(of(RecordType::Unknown(4711)), "unknown");
    assert_eq!(query_type(&[0; 12]), "unknown");
    assert_eq!(query_type(&[]), "unknown");
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Reply::Answer(answer) = answer(&bytes, &names(), transport) {
            prop_assert_eq!(&answer[..2], &bytes[..2]);
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
        query_type(&bytes);
    }

    /// Queries that are nearly right: a good one with some bytes changed.
    #[test]
    fn damage_never_panics(changes in proptest::collection::vec((0..60usize, any::<u8>()), 1..6)) {
        let mut bytes =
            with_payload(query("web.shop.svc.cluster.local.", RecordType::A), 1232).to_vec().unwrap();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Reply::Answer(answer) = answer(&bytes, &names(), Transport::Udp) {
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }
}
