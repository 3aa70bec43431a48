//! A slow wire in user space, for kernels without netem:
//!
//! ```text
//!  node ── eth0 ═ veth ═ port ─ bridge "slow-a" ─ TAP "near-a" ─ this process ─ TAP "far-a" ─ bridge "fabric"
//! ```
//!
//! The node's side (`eth0`, its addresses and routes) is not touched. A TAP announces no offloads, so that the kernel cuts
//! large segments and finishes checksums before it hands a frame to this process.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use sys::Namespace;
use sys::link::{LinkError, Netlink};
use sys::tun::{Layer, Tun};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use super::wire::Slowness;
use super::wire::Wire;
use super::{CONTROL_PLANE, FABRIC_BRIDGE};
use crate::error::{LabError, other};

/// Longer than any frame of a link with Ethernet's 1500 bytes.
const FRAME_MAX: usize = 65_536;

/// A wire that passes through this process. When it is dropped without [`SlowWire::remove`] the wire is cut.
pub(crate) struct SlowWire {
    names: Names,
    slowness: watch::Sender<Slowness>,
    relays: JoinSet<()>,
}

impl SlowWire {
    /// Puts the process between the fabric and the port of a link.
    pub(super) async fn insert(
        fabric: &Namespace,
        links: &Netlink,
        port: &str,
        slowness: Slowness,
    ) -> Result<SlowWire, LabError> {
        let names = Names::of(port);
        let mut wire = SlowWire {
            slowness: watch::channel(slowness).0,
            relays: JoinSet::new(),
            names,
        };
        if let Err(error) = wire.build(fabric, links).await {
            // The first error tells more than one of tidying up.
            let _ = wire.remove(links).await;
            return Err(error);
        }
        Ok(wire)
    }

    /// Changes how slow it is.
    pub(super) fn set(&self, slowness: Slowness) {
        self.slowness.send_replace(slowness);
    }

    /// Plugs the link straight into the fabric again. Frames under way are lost.
    pub(super) async fn remove(mut self, links: &Netlink) -> Result<(), LabError> {
        let Names { port, bridge, .. } = &self.names;
        let plugged = links.set_master(port, FABRIC_BRIDGE).await;
        // Both TAPs go with the tasks that hold them.
        self.relays.shutdown().await;
        let tidied = match links.delete(bridge).await {
            Err(error) if error.is_missing() => Ok(()),
            deleted => deleted,
        };
        plugged
            .and(tidied)
            .map_err(other(format!("taking the slow wire out of {port}")))
    }

    async fn build(&mut self, fabric: &Namespace, links: &Netlink) -> Result<(), LabError> {
        let names = &self.names;
        let doing = || format!("putting a slow wire into {}", names.port);
        let tap = |name: &str| {
            Tun::create(fabric, name, Layer::Frames)
                .map(Arc::new)
                .map_err(|error| no_tap(doing(), error))
        };
        let (near, far) = (tap(&names.near)?, tap(&names.far)?);
        for (from, to) in [(&near, &far), (&far, &near)] {
            self.relays
                .spawn(relay(from.clone(), to.clone(), self.slowness.subscribe()));
        }
        let wiring = async {
            links.bridge(&names.bridge).await?;
            links.set_master(&names.near, &names.bridge).await?;
            links.set_master(&names.far, FABRIC_BRIDGE).await?;
            for link in [&names.near, &names.far, &names.bridge] {
                links.up(link).await?;
            }
            // Last, so that the wire is whole until then.
            links.set_master(&names.port, &names.bridge).await
        };
        wiring.await.map_err(other::<LinkError>(doing()))
    }
}

/// Interfaces of the fabric's namespace; the kernel takes at most 15 bytes each.
struct Names {
    port: String,
    bridge: String,
    near: String,
    far: String,
}

impl Names {
    fn of(port: &str) -> Names {
        let short = match port {
            CONTROL_PLANE => "cp",
            node => node.strip_prefix("node-").unwrap_or(node),
        };
        Names {
            port: port.to_owned(),
            bridge: format!("slow-{short}"),
            near: format!("near-{short}"),
            far: format!("far-{short}"),
        }
    }
}

/// Carries frames in one direction for ever.
async fn relay(from: Arc<Tun>, to: Arc<Tun>, mut slowness: watch::Receiver<Slowness>) {
    let mut wire = Wire::new(*slowness.borrow_and_update());
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        let next = wire.next_arrival();
        tokio::select! {
            // What has arrived goes first: a flood must not hold it up.
            biased;
            () = until(next) => {}
            changed = slowness.changed() => match changed {
                Ok(()) => wire.set(*slowness.borrow_and_update()),
                Err(_) => return,
            },
            received = from.recv(&mut buffer) => match received {
                // Without room the frame is lost, as on any wire.
                Ok(length) => drop(wire.push(Instant::now(), &buffer[..length])),
                Err(error) => {
                    tracing::warn!(%error, "a slow wire is broken: cannot read frames");
                    return;
                }
            },
        }
        let now = Instant::now();
        while let Some(frame) = wire.pop(now) {
            // An interface that is down takes nothing: the frame is lost.
            if let Err(error) = to.send(&frame).await {
                tracing::debug!(%error, "a slow wire lost a frame");
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn no_tap(doing: String, source: io::Error) -> LabError {
    if source.kind() == io::ErrorKind::NotFound {
        return LabError::Failed(format!(
            "{doing}: there is no /dev/net/tun; load the kernel module `tun`, or pass the device into this container"
        ));
    }
    LabError::System { doing, source }
}
