//! A name server on loopback.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// A name server that knows `db.example.` and nothing else.
pub(crate) async fn name_server(addresses: &[IpAddr]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let addresses = addresses.to_vec();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let query = message.queries[0].clone();
            let name = query.name().clone();
            if name.to_ascii().eq_ignore_ascii_case("db.example.") {
                for address in &addresses {
                    let data = match (address, query.query_type()) {
                        (IpAddr::V4(ip), RecordType::A) => RData::A((*ip).into()),
                        (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA((*ip).into()),
                        _ => continue,
                    };
                    message.add_answer(Record::from_rdata(name.clone(), 30, data));
                }
            } else {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}
