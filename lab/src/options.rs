use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LabError;
use crate::plan;

/// What a lab is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabOptions {
    /// Its name.
    pub name: String,
    /// How many nodes, 1 to 26.
    pub nodes: usize,
    /// IPv4 and IPv6; else IPv4 only.
    pub ipv6: bool,
    /// Run the mesh's programs. Without, the lab is only nodes, pods, Services and DNS.
    pub mesh: bool,
    /// The mesh's programs read and write a Kubernetes API in place of the lab's files.
    pub kubernetes: bool,
    /// Other ztunnel binaries, by node.
    pub node_proxies: BTreeMap<String, PathBuf>,
    /// Further environment of node proxies, by node.
    pub node_proxy_env: BTreeMap<String, Vec<(String, String)>>,
    /// How long everything may take to become ready.
    pub timeout: Duration,
    /// The programs that are run.
    pub programs: Programs,
    /// The objects, as [`crate::Manifests`] has accepted them.
    pub objects: Vec<Value>,
}

/// Where the programs are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Programs {
    /// The program that runs the supervisor, the test application and `exec`.
    pub ztctl: PathBuf,
    /// The node proxy.
    pub ztunnel: PathBuf,
    /// The node agent.
    pub node_agent: PathBuf,
    /// The control plane.
    pub control_plane: PathBuf,
}

impl Programs {
    /// Looks for the programs beside `ztctl`, then in the PATH. Without `mesh`, only ztctl is needed.
    pub fn find(ztctl: &Path, mesh: bool) -> Result<Programs, LabError> {
        let find = |name: &str| -> Result<PathBuf, LabError> {
            if !mesh {
                return Ok(PathBuf::new());
            }
            let beside = ztctl.parent().map(|directory| directory.join(name));
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut candidates = beside
                .into_iter()
                .chain(std::env::split_paths(&path).map(|path| path.join(name)));
            candidates.find(|path| path.is_file()).ok_or_else(|| {
                LabError::Usage(format!(
                    "the program `{name}` is neither beside {} nor in the PATH; build it with `cargo build -p {name}`",
                    ztctl.display()
                ))
            })
        };
        Ok(Programs {
            ztctl: ztctl.to_owned(),
            ztunnel: find("ztunnel")?,
            node_agent: find("node-agent")?,
            control_plane: find("control-plane")?,
        })
    }
}

impl LabOptions {
    /// What can be seen to be wrong before anything is made.
    pub fn check(&self) -> Result<(), LabError> {
        if !(1..=plan::NODES_MAX).contains(&self.nodes) {
            return Err(LabError::Usage(format!(
                "--nodes {}: a lab has 1 to {} nodes",
                self.nodes,
                plan::NODES_MAX
            )));
        }
        if self.kubernetes && !self.mesh {
            return Err(LabError::Usage(
                "--control-plane kubernetes: there is no control plane in a lab without the mesh".to_owned(),
            ));
        }
        let nodes = self.node_names();
        for node in self.node_proxies.keys().chain(self.node_proxy_env.keys()) {
            if !nodes.contains(node) {
                return Err(LabError::Usage(format!(
                    "there is no node `{node}`: the nodes of this lab are {}",
                    nodes.join(", ")
                )));
            }
        }
        for (node, path) in &self.node_proxies {
            if !path.is_file() {
                return Err(LabError::Usage(format!(
                    "--node-proxy {node}={}: no such file",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// The names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        plan::nodes(self.nodes)
            .into_iter()
            .map(|node| node.name)
            .collect()
    }
}
