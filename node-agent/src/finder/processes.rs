//! The network namespace of a pod by the pod's processes, as on a Kubernetes node.
//!
//! Which pod a process belongs to, the kubelet has written into its control group (`kubepods/.../podUID/CONTAINER`, with
//! the systemd driver `...-podUID.slice/...`). A process may have moved to another network namespace than its pod's, so
//! only one that holds an address of the pod counts.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sys::{Namespace, NamespaceError, NamespaceId};

use super::{FindError, NamespaceFinder, is_plain};

/// Processes of one pod that are looked at; the oldest ones, of which one holds the sandbox.
const MAX_PROCESSES: usize = 64;

/// Namespaces found below a `/proc`.
#[derive(Debug)]
pub struct ProcessNamespaces {
    proc: PathBuf,
    node: NamespaceId,
    own: NamespaceId,
    /// The processes of each pod, the oldest first, as they were at the last look.
    processes: Mutex<HashMap<String, Vec<Process>>>,
}

/// A process, and no other that gets its id later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    /// Clock ticks since boot.
    started: u64,
    id: u32,
}

impl ProcessNamespaces {
    /// Looks into `proc`, which is the node's. The namespace of this process and that of the node's process 1 are never
    /// taken for a pod's.
    ///
    /// # Errors
    /// When one of those two cannot be looked at: without them the node itself could be taken for a pod.
    pub fn new(proc: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let proc = proc.as_ref().to_path_buf();
        let node = Namespace::open(proc.join("1/ns/net"))?;
        Ok(Self {
            node: node.id(),
            own: Namespace::current()?.id(),
            proc,
            processes: Mutex::default(),
        })
    }

    /// The namespace, of the known processes of the pod.
    fn among(&self, processes: &[Process], uid: &str, addresses: &[IpAddr]) -> Result<Namespace, FindError> {
        let mut problem = FindError::NoProcess {
            proc: self.proc.clone(),
        };
        let mut seen: Vec<NamespaceId> = Vec::new();
        let mut agents = None;
        for process in processes {
            let path = self.proc.join(process.id.to_string()).join("ns/net");
            let namespace = match Namespace::open(&path) {
                Ok(namespace) => namespace,
                // It has ended.
                Err(NamespaceError::Open { source, .. }) if has_ended(&source) => continue,
                Err(error) => {
                    problem = error.into();
                    continue;
                }
            };
            // Another process may have got its id since.
            if self.look_at(process.id).as_ref() != Some(&(*process, uid.to_owned())) {
                continue;
            }
            if seen.contains(&namespace.id()) {
                continue;
            }
            seen.push(namespace.id());
            if namespace.id() == self.own && self.own != self.node {
                agents = Some(path);
                continue;
            }
            match super::checked(namespace, &path, addresses, &[self.node, self.own]) {
                Ok(namespace) => return Ok(namespace),
                Err(error) => problem = error,
            }
        }
        // The others of its processes are at work in the pods' namespaces.
        Err(agents.map_or(problem, |path| FindError::Agents { path }))
    }

    /// All processes of all pods.
    fn look(&self) -> io::Result<HashMap<String, Vec<Process>>> {
        let mut found: HashMap<String, Vec<Process>> = HashMap::new();
        for entry in fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some((process, uid)) = self.look_at(id) {
                found.entry(uid).or_default().push(process);
            }
        }
        for processes in found.values_mut() {
            processes.sort_unstable();
            processes.truncate(MAX_PROCESSES);
        }
        Ok(found)
    }

    /// A process of a pod, and the pod's uid.
    fn look_at(&self, id: u32) -> Option<(Process, String)> {
        let directory = self.proc.join(id.to_string());
        let uid = pod_of(&fs::read_to_string(directory.join("cgroup")).ok()?)?;
        let started = started(&fs::read_to_string(directory.join("stat")).ok()?)?;
        Some((Process { started, id }, uid))
    }
}

impl NamespaceFinder for ProcessNamespaces {
    fn find(&self, uid: &str, addresses: &[IpAddr]) -> Result<Namespace, FindError> {
        if !is_plain(uid) {
            return Err(FindError::BadUid(uid.to_owned()));
        }
        let mut known = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        // An enrolled pod is asked for every now and then: what was found before mostly holds.
        if let Some(processes) = known.get(uid)
            && let Ok(namespace) = self.among(processes, uid, addresses)
        {
            return Ok(namespace);
        }
        *known = self.look().map_err(|source| FindError::Processes {
            proc: self.proc.clone(),
            source,
        })?;
        let processes = known.get(uid).map(Vec::as_slice).unwrap_or_default();
        self.among(processes, uid, addresses)
    }
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// The uid of the pod in the text of `/proc/PID/cgroup`.
///
/// The outermost part that names a pod counts: a container may name groups below its own as it likes. And only what the
/// kubelet made counts: below `kubepods`, or, as seen from a control group namespace that lies in it, reached by nothing
/// but ways up and the groups of a quality of service. Users of the node name theirs as they like.
fn pod_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        let mut is_kubelets = true;
        for part in path.split('/') {
            let part = part.strip_suffix(".slice").unwrap_or(part);
            let uid = if part == "user" {
                return None;
            } else if let Some((_, rest)) = part.split_once("kubepods") {
                // With the systemd driver the name has all of the path in it, and the kubelet's own root before.
                is_kubelets = true;
                rest.rsplit_once("-pod").map(|(_, uid)| uid)
            } else if ["", "..", "burstable", "besteffort"].contains(&part) {
                None
            } else {
                let uid = part.strip_prefix("pod").filter(|_| is_kubelets);
                is_kubelets &= uid.is_some();
                uid
            };
            if let Some(uid) = uid {
                // The systemd driver cannot have dashes there.
                let uid = uid.replace('_', "-");
                return is_plain(&uid).then_some(uid);
            }
        }
        None
    })
}

/// Field 22 of `/proc/PID/stat`. The second field is in brackets and may hold anything.
fn started(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
