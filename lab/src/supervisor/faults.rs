//! Broken wires, made on purpose.

use std::collections::BTreeMap;
use std::time::Duration;

use sys::Namespace;

use super::services::restore;
use crate::control::FaultRequest;
use crate::error::LabError;
use crate::network::{Network, SlowWire, Slowness};

/// The faults that are on, by link.
#[derive(Default)]
pub(crate) struct Faults {
    on: BTreeMap<String, Fault>,
}

#[derive(Default)]
struct Fault {
    loss: bool,
    partitioned: bool,
    slowness: Slowness,
    wire: Option<SlowWire>,
}

/// The longest delay: more frames would be under way than a wire holds.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// The chains that lose packets: those that come in before anything sees them, those that go out after everything.
const BASE: &str = "*mangle\n\
     :LAB-LOSS-IN - [0:0]\n\
     :LAB-LOSS-OUT - [0:0]\n\
     COMMIT\n";
const HOOKS: &str = "*mangle\n\
     -I PREROUTING -i eth0 -j LAB-LOSS-IN\n\
     -I POSTROUTING -o eth0 -j LAB-LOSS-OUT\n\
     COMMIT\n";

impl Faults {
    /// Changes the faults of the wire between a node, or the control plane, and everybody else.
    pub(crate) async fn apply(&mut self, network: &Network, request: &FaultRequest) -> Result<(), LabError> {
        let namespace = match network.node(&request.link) {
            Some(node) => &node.namespace,
            None if request.link == "control-plane" => &network.control_plane,
            None if request.link == "kube-api" && network.kube_api.is_some() => {
                network.kube_api.as_ref().unwrap_or(&network.control_plane)
            }
            None => {
                let mut nodes: Vec<&str> = network.nodes.iter().map(|node| node.plan.name.as_str()).collect();
                nodes.extend(network.kube_api.as_ref().map(|_| "kube-api"));
                return Err(LabError::Usage(format!(
                    "there is no link `{}`: the links of this lab are {} and control-plane",
                    request.link,
                    nodes.join(", ")
                )));
            }
        };
        if request.delay.is_some_and(|delay| delay > DELAY_MAX) {
            return Err(LabError::Usage(format!(
                "the longest delay of a link is {} s",
                DELAY_MAX.as_secs()
            )));
        }
        if request.rate == Some(0) {
            return Err(LabError::Usage(
                "a link's rate is at least 1 bit per second; to cut it, use a partition".to_owned(),
            ));
        }
        let fault = self.on.entry(request.link.clone()).or_default();
        let mut slowness = if request.clear {
            Slowness::default()
        } else {
            fault.slowness
        };
        slowness.delay = request.delay.unwrap_or(slowness.delay);
        slowness.rate = request.rate.or(slowness.rate);
        if slowness != fault.slowness {
            // What was taken out is gone also when this fails half-way.
            fault.slowness = Slowness::default();
            let before = fault.wire.take();
            fault.wire = network.set_slowness(&request.link, before, slowness).await?;
            fault.slowness = slowness;
        }
        if request.clear {
            if std::mem::take(&mut fault.partitioned) {
                network.set_connected(&request.link, true).await?;
            }
            if fault.loss {
                lose(network, namespace, 0.0).await?;
            }
        }
        if let Some(loss) = request.loss {
            if !fault.loss {
                for v6 in families(network) {
                    restore(namespace, v6, BASE).await?;
                    restore(namespace, v6, HOOKS).await?;
                }
                fault.loss = true;
            }
            lose(network, namespace, loss).await?;
        }
        if request.partition {
            network.set_connected(&request.link, false).await?;
            fault.partitioned = true;
        }
        Ok(())
    }
}

/// Loses this part of the packets in each direction.
async fn lose(network: &Network, namespace: &Namespace, part: f64) -> Result<(), LabError> {
    let rule = |chain: &str| {
        if part > 0.0 {
            format!("-A {chain} -m statistic --mode random --probability {part:.6} -j DROP\n")
        } else {
            String::new()
        }
    };
    let rules = format!(
        "*mangle\n:LAB-LOSS-IN - [0:0]\n:LAB-LOSS-OUT - [0:0]\n{}{}COMMIT\n",
        rule("LAB-LOSS-IN"),
        rule("LAB-LOSS-OUT")
    );
    for v6 in families(network) {
        restore(namespace, v6, &rules).await?;
    }
    Ok(())
}

fn families(network: &Network) -> impl Iterator<Item = bool> {
    [false].into_iter().chain(network.ipv6().then_some(true))
}
