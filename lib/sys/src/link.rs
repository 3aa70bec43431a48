//! Interfaces, addresses, routes, rules and settings of a network namespace (rtnetlink(7)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use futures_util::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags},
    link::{InfoData, InfoVeth},
    route::{RouteAttribute, RouteMessage, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{
    Handle, IpVersion, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use crate::{Namespace, NamespaceError};

mod sysctl;

pub use sysctl::{read_sysctl, sysctl, sysctl_in};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// A policy routing rule: packets whose mark matches look into `table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The mark to match, after masking.
    pub mark: u32,
    /// The bits of the mark that count.
    pub mask: u32,
    /// Lower is earlier.
    pub priority: u32,
    /// The table to look into.
    pub table: u32,
}

/// What could not be done, and the kernel's reason.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No interface of this name.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Refused {
        /// What was tried.
        action: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl LinkError {
    /// Whether it failed since the thing is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether it failed since the thing is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoInterface(_))
            || matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH))
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A connection to the routing part of the kernel, in one namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a netlink socket inside the namespace. Needs a tokio runtime; a task that serves the socket ends with the
    /// last clone.
    pub fn in_namespace(namespace: &Namespace) -> Result<Self, LinkError> {
        let opened = namespace.enter(rtnetlink::new_connection)?;
        let (connection, handle, _) = opened.map_err(|source| LinkError::Refused {
            action: "open a netlink socket".into(),
            source,
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Makes a pair of interfaces joined by a wire: `name` here, `peer` in the other namespace. Both are down.
    pub async fn veth(&self, name: &str, peer: &str, peer_namespace: &Namespace) -> Result<(), LinkError> {
        let far = LinkMessageBuilder::<LinkUnspec>::default()
            .name(peer)
            .setns_by_fd(peer_namespace.as_fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        let made = self.handle.link().add(pair).execute().await;
        refused(made, || format!("make the pair of interfaces {name} and {peer}"))
    }

    /// Makes a bridge, down and without ports.
    pub async fn bridge(&self, name: &str) -> Result<(), LinkError> {
        let made = self
            .handle
            .link()
            .add(LinkBridge::new(name).build())
            .execute()
            .await;
        refused(made, || format!("make the bridge {name}"))
    }

    /// Makes `link` a port of the bridge `master`.
    pub async fn set_master(&self, link: &str, master: &str) -> Result<(), LinkError> {
        let (link_index, master_index) = (self.index(link).await?, self.index(master).await?);
        let change = LinkUnspec::new_with_index(link_index)
            .controller(master_index)
            .build();
        let made = self.handle.link().change(change).execute().await;
        refused(made, || format!("make {link} a port of {master}"))
    }

    /// Lets the bridge send a frame back out of the port it came from.
    pub async fn hairpin(&self, port: &str, on: bool) -> Result<(), LinkError> {
        let change = LinkBridgePort::new(self.index(port).await?).hairpin(on).build();
        let made = self.handle.link().set_port(change).execute().await;
        refused(made, || format!("set hairpin mode of {port}"))
    }

    /// Brings an interface up.
    pub async fn up(&self, link: &str) -> Result<(), LinkError> {
        let change = LinkUnspec::new_with_index(self.index(link).await?).up().build();
        let made = self.handle.link().change(change).execute().await;
        refused(made, || format!("bring {link} up"))
    }

    /// Takes an interface down.
    pub async fn down(&self, link: &str) -> Result<(), LinkError> {
        let change = LinkUnspec::new_with_index(self.index(link).await?).down().build();
        let made = self.handle.link().change(change).execute().await;
        refused(made, || format!("take {link} down"))
    }

    /// Sets the greatest packet an interface carries, in bytes.
    pub async fn mtu(&self, link: &str, mtu: u32) -> Result<(), LinkError> {
        let change = LinkUnspec::new_with_index(self.index(link).await?)
            .mtu(mtu)
            .build();
        let made = self.handle.link().change(change).execute().await;
        refused(made, || format!("set the MTU of {link} to {mtu}"))
    }

    /// Deletes an interface, and with a veth its other end.
    pub async fn delete(&self, link: &str) -> Result<(), LinkError> {
        let gone = self.handle.link().del(self.index(link).await?).execute().await;
        refused(gone, || format!("delete the interface {link}"))
    }

    /// The kernel's number of an interface.
    pub async fn index(&self, link: &str) -> Result<u32, LinkError> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(link).execute());
        match found.try_next().await {
            Ok(Some(message)) => Ok(message.header.index),
            Ok(None) => Err(LinkError::NoInterface(link.to_owned())),
            Err(error) => match refused::<()>(Err(error), || format!("look for the interface {link}")) {
                Err(error) if error.is_missing() => Err(LinkError::NoInterface(link.to_owned())),
                Err(error) => Err(error),
                Ok(()) => Err(LinkError::NoInterface(link.to_owned())),
            },
        }
    }

    /// Gives an interface an address. An IPv6 address is usable at once: no duplicate address detection.
    pub async fn address(&self, link: &str, address: IpAddr, prefix: u8) -> Result<(), LinkError> {
        let index = self.index(link).await?;
        let mut request = self.handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            let message = request.message_mut();
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        refused(request.execute().await, || {
            format!("add the address {address}/{prefix} to {link}")
        })
    }

    /// Adds a route to `destination`/`prefix`, by the gateway `via`, the interface `link`, or both. `onlink`: the
    /// gateway is reachable on that interface whatever its addresses say.
    pub async fn route(
        &self,
        (destination, prefix): (IpAddr, u8),
        via: Option<IpAddr>,
        link: Option<&str>,
        onlink: bool,
    ) -> Result<(), LinkError> {
        let action = || format!("add a route to {destination}/{prefix}");
        let message = self
            .route_message((destination, prefix), via, link, onlink)
            .await?;
        refused(self.handle.route().add(message).execute().await, action)
    }

    /// Removes a route added by [`Netlink::route`] with the same arguments.
    pub async fn delete_route(
        &self,
        (destination, prefix): (IpAddr, u8),
        via: Option<IpAddr>,
        link: Option<&str>,
    ) -> Result<(), LinkError> {
        let message = self
            .route_message((destination, prefix), via, link, false)
            .await?;
        let gone = self.handle.route().del(message).execute().await;
        refused(gone, || format!("remove the route to {destination}/{prefix}"))
    }

    /// Adds `local default dev lo` to a table: what is looked up there is delivered here, whatever its destination.
    pub async fn local_route(&self, family: Family, table: u32) -> Result<(), LinkError> {
        let message = self.local_route_message(family, table).await?;
        let made = self.handle.route().add(message).execute().await;
        refused(made, || format!("add the local default route to table {table}"))
    }

    /// Removes what [`Netlink::local_route`] added.
    pub async fn delete_local_route(&self, family: Family, table: u32) -> Result<(), LinkError> {
        let message = self.local_route_message(family, table).await?;
        let gone = self.handle.route().del(message).execute().await;
        refused(gone, || {
            format!("remove the local default route from table {table}")
        })
    }

    /// Adds a policy routing rule.
    pub async fn rule(&self, family: Family, rule: Rule) -> Result<(), LinkError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(family, rule);
        refused(request.execute().await, || {
            format!("add the routing rule for mark {:#x}", rule.mark)
        })
    }

    /// Removes a policy routing rule.
    pub async fn delete_rule(&self, family: Family, rule: Rule) -> Result<(), LinkError> {
        let gone = self.handle.rule().del(rule_message(family, rule)).execute().await;
        refused(gone, || {
            format!("remove the routing rule for mark {:#x}", rule.mark)
        })
    }

    /// Whether this very rule is there.
    pub async fn has_rule(&self, family: Family, rule: Rule) -> Result<bool, LinkError> {
        let listed = self
            .handle
            .rule()
            .get(family.into())
            .execute()
            .try_collect()
            .await;
        let rules: Vec<RuleMessage> = refused(listed, || "list the routing rules".to_string())?;
        let wanted = rule_message(family, rule);
        Ok(rules.iter().any(|rule| {
            wanted
                .attributes
                .iter()
                .all(|part| rule.attributes.contains(part))
        }))
    }

    /// Whether the table has what [`Netlink::local_route`] adds.
    pub async fn has_local_route(&self, family: Family, table: u32) -> Result<bool, LinkError> {
        let wanted = self.local_route_message(family, table).await?;
        let listed = self
            .handle
            .route()
            .get(wanted.clone())
            .execute()
            .try_collect()
            .await;
        let routes: Vec<RouteMessage> = refused(listed, || format!("list the routes of table {table}"))?;
        Ok(routes.iter().any(|route| {
            let table_id = route.attributes.iter().find_map(|part| match part {
                RouteAttribute::Table(id) => Some(*id),
                _ => None,
            });
            table_id.unwrap_or(route.header.table.into()) == table
                && route.header.kind == RouteType::Local
                && route.header.destination_prefix_length == 0
        }))
    }
}

impl Netlink {
    async fn route_message(
        &self,
        (destination, prefix): (IpAddr, u8),
        via: Option<IpAddr>,
        link: Option<&str>,
        onlink: bool,
    ) -> Result<RouteMessage, LinkError> {
        let impossible = || LinkError::Refused {
            action: format!("make a route to {destination}/{prefix}"),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "the prefix is too long, or the gateway of another family",
            ),
        };
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .map_err(|_| impossible())?;
        if let Some(via) = via {
            route = route.gateway(via).map_err(|_| impossible())?;
        }
        if let Some(link) = link {
            route = route.output_interface(self.index(link).await?);
        }
        if via.is_none() {
            route = route.scope(RouteScope::Link);
        }
        if onlink {
            route = route.onlink();
        }
        Ok(route.build())
    }

    async fn local_route_message(&self, family: Family, table: u32) -> Result<RouteMessage, LinkError> {
        let loopback = self.index("lo").await?;
        Ok(match family {
            Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new()
                .table_id(table)
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .output_interface(loopback)
                .build(),
            Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new()
                .table_id(table)
                .kind(RouteType::Local)
                .output_interface(loopback)
                .build(),
        })
    }
}

impl From<Family> for IpVersion {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
        }
    }
}

fn rule_message(family: Family, rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(rule.mask),
        RuleAttribute::Table(rule.table),
    ];
    message
}

fn refused<T>(answer: Result<T, rtnetlink::Error>, action: impl FnOnce() -> String) -> Result<T, LinkError> {
    answer.map_err(|error| LinkError::Refused {
        action: action(),
        source: match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        },
    })
}

#[cfg(test)]
mod tests;
