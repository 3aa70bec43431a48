//! Finding the network namespace of a pod.

mod processes;

pub use processes::ProcessNamespaces;
#[cfg(feature = "fuzzing")]
pub use processes::fuzzing;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use sys::{Namespace, NamespaceError, NamespaceId};

/// Something that knows the network namespaces of this node's pods.
pub trait NamespaceFinder: Send + Sync + 'static {
    /// The network namespace of the pod with this uid, which must hold one of the addresses. Blocks briefly.
    fn find(&self, uid: &str, addresses: &[IpAddr]) -> Result<Namespace, FindError>;
}

/// Why there is no namespace to work in.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The pod has none, or none any more.
    #[error("the pod has no network namespace at {path} yet")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// No process of the pod is there, or none any more.
    #[error("no process below {proc} belongs to the pod yet")]
    NoProcess {
        /// The node's `/proc`.
        proc: PathBuf,
    },
    /// The processes cannot be listed.
    #[error("cannot list the processes of the node in {proc}: {source}")]
    Processes {
        /// The node's `/proc`.
        proc: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What is there cannot be used.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What is there is the namespace of the node or of the agent itself: its rules would capture the whole node.
    #[error("{path} is the node's own network namespace and not the pod's: it is left alone")]
    NotThePods {
        /// The file.
        path: PathBuf,
    },
    /// The pod is the one that the agent runs in. It is never in the mesh: whoever redirects has to work without.
    #[error("the node agent itself runs in this pod, which is never in the mesh: {path} is left alone")]
    Agents {
        /// The file.
        path: PathBuf,
    },
    /// What is there belongs to somebody else, or the pod's address has changed.
    #[error("the network namespace at {path} holds none of the pod's addresses {expected:?} but {found:?}")]
    OtherAddresses {
        /// The file.
        path: PathBuf,
        /// What the pod's status says.
        expected: Vec<IpAddr>,
        /// What the namespace has, without loopback.
        found: Vec<IpAddr>,
    },
    /// The uid cannot be a file name.
    #[error("the pod's uid {0:?} is not understood: letters, digits and dashes are")]
    BadUid(String),
}

impl FindError {
    /// Whether there is nothing at all for this pod, so that nothing can be left in it either.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. } | Self::NoProcess { .. } | Self::Agents { .. }
        )
    }
}

/// Namespaces pinned as files named by the pods' uids.
#[derive(Debug)]
pub struct PinnedNamespaces {
    directory: PathBuf,
    forbidden: Vec<NamespaceId>,
}

impl PinnedNamespaces {
    /// Looks into `directory`. The namespace of this process, and that of process 1 where it can be seen, are never
    /// taken for a pod's.
    pub fn new(directory: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let mut forbidden = vec![Namespace::current()?.id()];
        forbidden.extend(Namespace::open("/proc/1/ns/net").map(|namespace| namespace.id()));
        Ok(Self {
            directory: directory.as_ref().to_path_buf(),
            forbidden,
        })
    }
}

impl NamespaceFinder for PinnedNamespaces {
    fn find(&self, uid: &str, addresses: &[IpAddr]) -> Result<Namespace, FindError> {
        if !is_plain(uid) {
            return Err(FindError::BadUid(uid.to_owned()));
        }
        let path = self.directory.join(uid);
        let namespace = match Namespace::open(&path) {
            Err(NamespaceError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(FindError::Missing { path });
            }
            // The file is made just before the namespace is bound to it, and outlives the binding a little.
            Err(NamespaceError::NotANetworkNamespace { .. }) => return Err(FindError::Missing { path }),
            other => other?,
        };
        checked(namespace, &path, addresses, &self.forbidden)
    }
}

/// Whether a uid can be part of a path.
fn is_plain(uid: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !uid.is_empty() && uid.bytes().all(plain)
}

/// The namespace, if it can be the pod's: not the node's own, and one of the pod's addresses in it.
fn checked(
    namespace: Namespace,
    path: &Path,
    addresses: &[IpAddr],
    forbidden: &[NamespaceId],
) -> Result<Namespace, FindError> {
    let path = path.to_path_buf();
    if forbidden.contains(&namespace.id()) {
        return Err(FindError::NotThePods { path });
    }
    let found: Vec<IpAddr> = namespace
        .addresses()?
        .into_iter()
        .filter(|address| !address.is_loopback())
        .collect();
    if !addresses.iter().any(|address| found.contains(address)) {
        return Err(FindError::OtherAddresses {
            path,
            expected: addresses.to_vec(),
            found,
        });
    }
    Ok(namespace)
}

#[cfg(test)]
mod tests;
