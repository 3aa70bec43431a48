//! What can be seen on the wire by who has no key: between nodes, and within one.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::thread;

use tests::manifests::{join, namespace, peer_authentication, service, sleeper};
use tests::tls_wire::{Conversation, conversations};
use tests::{Capture, Lab, Packet, Place, Pod, Random, Transport, require_root};

const HBONE: u16 = 15008;
const CONTROL_PLANE: u16 = 15012;
const TLS13: u16 = 0x0304;
const AES_256_GCM_SHA384: u16 = 0x1302;
const X25519_ML_KEM_768: u16 = 0x11ec;

#[test]
fn between_nodes_there_is_only_tls() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let [client, server] = ["mesh/client", "mesh/server"].map(|name| lab.pod(name));
    let secret = Secret::new("between_nodes_there_is_only_tls");
    let captures = ["node-a", "node-b"].map(|node| Capture::start(&lab.fabric(), node, ""));
    let talk = || {
        secret.say(&client, &server, server.at(7001));
        secret.say(&server, &client, client.at(7001));
        let service = SocketAddr::new(lab.service_address("mesh", "server"), 80);
        secret.say(&client, &server, service);
    };
    assert_eq!(
        client.resolve("server.mesh.svc.cluster.local"),
        Some(vec![lab.service_address("mesh", "server")]),
        "names are answered on the node"
    );
    talk();
    // So that the capture holds the beginning of what was open before it.
    lab.restart("ztunnel/node-a", true);
    lab.restart("ztunnel/node-b", false);
    lab.restart("control-plane", true);
    lab.apply(&peer_authentication("mesh", "default", "STRICT"));
    talk();

    let pods = [client.ip, server.ip];
    let nodes = ["node-a", "node-b"].map(|node| lab.node(node).addresses).concat();
    let control_plane = lab.control_plane().addresses;
    for (node, capture) in ["node-a", "node-b"].into_iter().zip(captures) {
        let packets = capture.stop();
        println!("{node}: {} packets", packets.len());
        for packet in &packets {
            assert!(
                !secret.is_in(packet),
                "{node}: the payload itself, from {} to {}",
                packet.src,
                packet.dst
            );
            let between = |left: &[IpAddr], right: &[IpAddr]| {
                left.contains(&packet.src.ip()) && right.contains(&packet.dst.ip())
                    || right.contains(&packet.src.ip()) && left.contains(&packet.dst.ip())
            };
            let expected = packet.is_tcp()
                && (between(&pods, &pods) && packet.has_port(HBONE)
                    || between(&nodes, &control_plane) && packet.has_port(CONTROL_PLANE));
            assert!(
                expected || is_link_local(packet),
                "{node}: neither a tunnel nor control: {packet:?}"
            );
        }
        let conversations = conversations(&packets);
        let of = |port: u16| {
            conversations
                .iter()
                .filter(move |conversation| conversation.server.port() == port)
        };
        // Those that were cut off by the restarts before their handshake was done count for nothing.
        let handshakes = |port| {
            of(port)
                .filter_map(Conversation::expect_tls13)
                .collect::<Vec<_>>()
        };
        let (tunnels, control) = (handshakes(HBONE), handshakes(CONTROL_PLANE));
        for handshake in tunnels.iter().chain(&control) {
            assert_eq!(handshake.version, TLS13);
            assert!(
                handshake.offered_versions.iter().all(|version| *version == TLS13),
                "{handshake:x?}"
            );
        }
        for handshake in &tunnels {
            assert_eq!(
                (handshake.suite, handshake.group),
                (AES_256_GCM_SHA384, X25519_ML_KEM_768)
            );
            assert!(
                !handshake.server_name,
                "a tunnel's client names nobody in the clear"
            );
        }
        // Two directions, before and after the proxies were restarted; state at least.
        assert!(tunnels.len() >= 4, "{node}: {} tunnels", tunnels.len());
        assert!(
            !control.is_empty(),
            "{node}: no connection to the control plane was seen to begin"
        );
        let carried: usize = of(HBONE)
            .map(|tunnel| tunnel.from_client.len() + tunnel.from_server.len())
            .sum();
        assert!(
            carried > 6 * 2 * Secret::LENGTH,
            "{node}: {carried} bytes in tunnels are not all that was said"
        );
    }
}

/// The same eyes do see what no tunnel hides.
#[test]
fn the_captures_would_show_a_payload() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let [client, server, caller, far] =
        ["mesh/client", "mesh/server", "outside/caller", "outside/far"].map(|name| lab.pod(name));
    for (from, to, what) in [
        (&caller, &far, "outside of the mesh"),
        (&caller, &server, "into the mesh, while PERMISSIVE"),
        (&client, &far, "out of the mesh"),
    ] {
        let secret = Secret::new(what);
        let capture = Capture::start(&lab.fabric(), "node-a", "");
        secret.say(from, to, to.at(7001));
        let packets = capture.stop();
        let seen = |from: IpAddr| {
            packets
                .iter()
                .any(|packet| packet.src.ip() == from && secret.is_in(packet))
        };
        assert!(
            seen(from.ip) && seen(to.ip),
            "{what}: the payload was not seen both ways"
        );
        assert!(
            !packets.iter().any(|packet| packet.has_port(HBONE)),
            "{what}: a tunnel"
        );
    }
}

#[test]
fn within_a_node_there_is_only_tls_too() {
    if !require_root() {
        return;
    }
    let lab = lab();
    let [client, neighbour] = ["mesh/client", "mesh/neighbour"].map(|name| lab.pod(name));
    let secret = Secret::new("within_a_node_there_is_only_tls_too");
    let node = Capture::start(&lab.node("node-a"), "any", "");
    let pods = [&client, &neighbour].map(|pod| Capture::start(pod, "eth0", ""));
    secret.say(&client, &neighbour, neighbour.at(7001));
    let seen_on_node = node.stop();
    assert!(
        !seen_on_node.iter().any(|packet| secret.is_in(packet)),
        "the payload on the node"
    );
    for (pod, capture) in [&client, &neighbour].into_iter().zip(pods) {
        let packets = capture.stop();
        for packet in packets.iter().filter(|packet| !is_link_local(packet)) {
            assert!(!secret.is_in(packet), "the payload at {}", pod.name);
            assert!(
                packet.is_tcp() && packet.has_port(HBONE),
                "at {}: no tunnel: {packet:?}",
                pod.name
            );
        }
        let tunnels = conversations(&packets);
        assert_eq!(tunnels.len(), 1, "tunnels at {}", pod.name);
        assert_eq!(tunnels[0].expect_tls13().unwrap().version, TLS13);
    }
}

/// Client and neighbour on node-a, the server on node-b; outside the mesh one on each.
fn lab() -> Lab {
    Lab::up(&join([
        namespace("mesh", true),
        namespace("outside", false),
        sleeper("mesh", "client", "client", "node-a"),
        sleeper("mesh", "neighbour", "neighbour", "node-a"),
        sleeper("mesh", "server", "server", "node-b"),
        sleeper("outside", "caller", "default", "node-a"),
        sleeper("outside", "far", "default", "node-b"),
        service("mesh", "server", "server", 80, "7001"),
    ]))
}

/// Neighbour discovery, and the memberships of bridges in groups of their own link (224.0.0.0/24, RFC 5771 §4): never
/// leaves a link, carries nobody's bytes.
fn is_link_local(packet: &Packet) -> bool {
    const IGMP: u8 = 2;
    match (packet.src.ip(), packet.dst.ip()) {
        (IpAddr::V6(source), _) => {
            (source.is_unicast_link_local() || source.is_unspecified()) && !packet.is_tcp()
        }
        (_, IpAddr::V4(group)) => {
            group.octets()[..3] == [224, 0, 0] && packet.transport == Transport::Other(IGMP)
        }
        _ => false,
    }
}

/// A text that occurs nowhere else, said over and over.
struct Secret(String);

impl Secret {
    const LENGTH: usize = 96 * 1024;

    fn new(test: &str) -> Secret {
        let mut random = Random::new(Random::seed(test));
        Secret(format!(
            "nobody shall read this: {:016x}{:016x}.",
            random.next_u64(),
            random.next_u64()
        ))
    }

    /// One connection with the text both ways; both ends check that it has arrived.
    fn say(&self, from: &Pod, to: &Pod, at: SocketAddr) {
        let text = self.0.repeat(Secret::LENGTH / self.0.len() + 1);
        let listener = to.listen(7001);
        let near = from
            .connect(at)
            .unwrap_or_else(|error| panic!("{} to {at}: {error}", from.name));
        let (far, _) = listener.accept().unwrap();
        thread::scope(|scope| {
            for mut stream in [&near, &far] {
                let mut writer = stream;
                let text = &text;
                scope.spawn(move || {
                    writer.write_all(text.as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).unwrap();
                    assert!(received == text.as_bytes(), "other bytes than were sent");
                });
            }
        });
    }

    fn is_in(&self, packet: &Packet) -> bool {
        packet.contains(self.0.as_bytes())
    }
}
