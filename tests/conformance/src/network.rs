use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{InfoData, InfoVeth};
use netlink_packet_route::route::{RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::failure::{Doing, Failure, Outcome};
use crate::namespace::Namespace;

const BRIDGE: &str = "pods";
/// The node's own address towards its pods.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 1);

/// One node: a namespace with a bridge, to which the namespaces of pods are wired. Everything is on one segment, so a
/// pod reaches every other with nothing in between.
#[derive(Debug)]
pub struct Network {
    /// The node's own namespace.
    pub node: Namespace,
    next: u16,
}

/// What a pod has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In 10.244.0.0/16.
    pub v4: Ipv4Addr,
    /// In fd00:244::/64.
    pub v6: Ipv6Addr,
}

impl Network {
    /// Makes a node.
    pub fn new() -> Outcome<Network> {
        let node = Namespace::new()?;
        with_netlink(&node, async |netlink: &Handle| {
            up(netlink, "lo").await?;
            netlink
                .link()
                .add(LinkBridge::new(BRIDGE).build())
                .execute()
                .await?;
            address(netlink, BRIDGE, GATEWAY_V4.into(), 16).await?;
            address(netlink, BRIDGE, GATEWAY_V6.into(), 64).await?;
            up(netlink, BRIDGE).await
        })
        .doing("making a node's network")?;
        Ok(Network { node, next: 1 })
    }

    /// Wires a new namespace to the node.
    pub fn attach(&mut self) -> Outcome<(Namespace, Addresses)> {
        self.next += 1;
        let number = self.next;
        let [high, low] = number.to_be_bytes();
        let addresses = Addresses {
            v4: Ipv4Addr::new(10, 244, high, low),
            v6: Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, number),
        };
        let pod = Namespace::new()?;
        let port = format!("pod{number}");
        with_netlink(&self.node, async |netlink: &Handle| {
            let far = LinkMessageBuilder::<LinkUnspec>::default()
                .name("eth0".to_owned())
                .setns_by_fd(pod.file().as_raw_fd())
                .build();
            let pair = LinkVeth::new(&port, "eth0")
                .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
                .build();
            netlink.link().add(pair).execute().await?;
            let bridge = index(netlink, BRIDGE).await?;
            let enslave = LinkUnspec::new_with_index(index(netlink, &port).await?)
                .controller(bridge)
                .up()
                .build();
            netlink.link().change(enslave).execute().await?;
            Ok(())
        })
        .doing("wiring a pod to its node")?;
        with_netlink(&pod, async |netlink: &Handle| {
            up(netlink, "lo").await?;
            address(netlink, "eth0", addresses.v4.into(), 16).await?;
            address(netlink, "eth0", addresses.v6.into(), 64).await?;
            up(netlink, "eth0").await?;
            let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY_V4).build();
            netlink.route().add(default).execute().await?;
            let default = RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY_V6).build();
            netlink.route().add(default).execute().await?;
            Ok(())
        })
        .doing("giving a pod its addresses")?;
        Ok((pod, addresses))
    }
}

/// Installs in a pod what Istio's node agent installs: outbound connections go to port 15001, plaintext ones from
/// outside to 15006, DNS to 15053, and answers to callers under whose address the proxy calls come back to it.
pub fn redirect(pod: &Namespace) -> Outcome {
    for interface in ["all", "default", "lo", "eth0"] {
        pod.setting(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    with_netlink(pod, async |netlink: &Handle| {
        let loopback = index(netlink, "lo").await?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut rule = netlink.rule().add();
            let message = rule.message_mut();
            message.header.family = family;
            message.header.action = RuleAction::ToTable;
            message.attributes = vec![
                RuleAttribute::Priority(32764),
                RuleAttribute::FwMark(0x111),
                RuleAttribute::FwMask(0xfff),
                RuleAttribute::Table(100),
            ];
            rule.execute().await?;
        }
        let local = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(100)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(loopback)
            .build();
        netlink.route().add(local).execute().await?;
        let local = RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(100)
            .kind(RouteType::Local)
            .output_interface(loopback)
            .build();
        netlink.route().add(local).execute().await?;
        Ok(())
    })
    .doing("adding the policy route of a pod")?;
    restore(pod, "iptables-restore", &rules("127.0.0.1/32", "169.254.7.127"))?;
    restore(
        pod,
        "ip6tables-restore",
        &rules("::1/128", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
    )
}

fn rules(loopback: &str, probe: &str) -> String {
    format!(
        "*mangle\n\
         -A PREROUTING -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff\n\
         -A OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\n\
         COMMIT\n\
         *nat\n\
         -A PREROUTING -s {probe} -p tcp -j ACCEPT\n\
         -A PREROUTING ! -d {loopback} -p tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006\n\
         -A OUTPUT -d {probe} -p tcp -j ACCEPT\n\
         -A OUTPUT ! -o lo -p udp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053\n\
         -A OUTPUT ! -d {loopback} -p tcp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053\n\
         -A OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT\n\
         -A OUTPUT ! -d {loopback} -o lo -j ACCEPT\n\
         -A OUTPUT ! -d {loopback} -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001\n\
         COMMIT\n\
         *raw\n\
         -A OUTPUT -p udp --dport 53 -m mark --mark 0x539/0xfff -j CT --zone 1\n\
         -A PREROUTING -p udp --sport 53 -m mark ! --mark 0x539/0xfff -j CT --zone 1\n\
         COMMIT\n"
    )
}

fn restore(pod: &Namespace, program: &str, rules: &str) -> Outcome {
    let restored = pod.inside(|| {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(program)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        child.wait_with_output()
    });
    let output = restored.doing(format!("running {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// Runs `work` on a thread inside the namespace, with a netlink socket of it.
fn with_netlink(namespace: &Namespace, work: impl AsyncFnOnce(&Handle) -> Outcome + Send) -> Outcome {
    let outcome = namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            io::Result::Ok(work(&handle).await)
        })
    });
    outcome?
}

async fn index(netlink: &Handle, link: &str) -> Outcome<u32> {
    use futures_util::TryStreamExt;
    let mut found = std::pin::pin!(netlink.link().get().match_name(link.to_owned()).execute());
    let message = found.try_next().await?.doing(format!("no interface {link}"))?;
    Ok(message.header.index)
}

async fn up(netlink: &Handle, link: &str) -> Outcome {
    let change = LinkUnspec::new_with_index(index(netlink, link).await?)
        .up()
        .build();
    Ok(netlink.link().change(change).execute().await?)
}

async fn address(netlink: &Handle, link: &str, address: IpAddr, prefix: u8) -> Outcome {
    let mut request = netlink
        .address()
        .add(index(netlink, link).await?, address, prefix);
    if address.is_ipv6() {
        // Usable at once, without detection of duplicates.
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
    }
    Ok(request.execute().await?)
}
