//! Looking names up without speaking DNS.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record};

use super::*;
use crate::LookupError;

fn server(upstreams: &[SocketAddr]) -> (Server, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let forwarder = Forwarder::new(upstreams, Arc::new(Loopback::default()));
    let server = Server::new(Arc::new(names()), forwarder, counts.clone());
    (server, counts)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_name_of_the_mesh_is_found_without_asking_anybody() {
    let (server, counts) = server(&[]);
    for name in ["web.shop.svc.cluster.local", "WEB.shop.svc.cluster.local."] {
        assert_eq!(server.addresses(name).await.unwrap(), ips(&["10.96.0.7"]));
    }
    assert_eq!(server.addresses("big.svc").await.unwrap().len(), crate::MAX_FOUND);
    let counts = counts.0.lock().unwrap().clone();
    assert_eq!(counts, ["tcp A", "tcp AAAA"].repeat(3));
}

/// Answers every query with what `answers` says of its type.
fn serve_answers(
    socket: UdpSocket,
    answers: impl Fn(RecordType, &mut Message) + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (query, from) = next(&socket).await;
            let query = Message::from_vec(&query).unwrap();
            let kind = query.queries[0].query_type();
            let mut answer = query.clone();
            answer.metadata.message_type = hickory_proto::op::MessageType::Response;
            answers(kind, &mut answer);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    })
}

#[tokio::test]
async fn another_name_is_asked_for_at_the_servers_and_aliases_are_passed_over() {
    let (socket, address) = upstream().await;
    let serving = serve_answers(socket, |kind, answer| {
        let name = answer.queries[0].name().clone();
        let alias = Name::from_ascii("edge.example.net.").unwrap();
        answer.add_answer(Record::from_rdata(name, 60, RData::CNAME(CNAME(alias.clone()))));
        answer.add_answer(match kind {
            RecordType::A => Record::from_rdata(alias, 60, RData::A(A::new(192, 0, 2, 1))),
            _ => Record::from_rdata(alias, 60, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        });
    });
    let (server, _) = server(&[address]);
    let found = server.addresses("www.example.org").await.unwrap();
    assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]));
    serving.abort();
}

#[tokio::test]
async fn why_a_name_has_no_address_is_told() {
    let (socket, address) = upstream().await;
    let serving = serve_answers(socket, |_, answer| {
        let name = answer.queries[0].name().to_ascii();
        answer.metadata.response_code = match name.as_str() {
            "absent.example." => ResponseCode::NXDomain,
            "refused.example." => ResponseCode::Refused,
            _ => ResponseCode::NoError,
        };
    });
    let (server, _) = server(&[address]);
    let error = async |name: &str| server.addresses(name).await.unwrap_err();
    assert!(matches!(
        error("absent.example").await,
        LookupError::NoSuchName(_)
    ));
    assert!(matches!(error("empty.example").await, LookupError::NoAddress(_)));
    assert!(matches!(
        error("refused.example").await,
        LookupError::Server { .. }
    ));
    assert!(matches!(error("no..name").await, LookupError::NotAName(_)));
    let long = "a".repeat(64) + ".example";
    assert!(matches!(error(&long).await, LookupError::NotAName(_)));
    serving.abort();
    let (nobody, _) = self::server(&[]);
    let error = nobody.addresses("www.example.org").await.unwrap_err();
    assert!(matches!(error, LookupError::Forward(_)), "{error}");
}
