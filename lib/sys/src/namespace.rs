//! Network namespaces as values.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// A network namespace, kept alive by an open descriptor. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    id: NamespaceId,
}

/// What tells namespaces apart: two descriptors with the same id are the same namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId {
    /// Device number of the kernel's namespace file system.
    pub dev: u64,
    /// Inode number there. Reused by the kernel once the namespace is gone.
    pub inode: u64,
}

/// What went wrong with a namespace, and where to look.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The file cannot be opened.
    #[error("cannot open network namespace {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The descriptor is something else: an ordinary file, or a namespace of another kind.
    #[error("{what} is not a network namespace")]
    NotANetworkNamespace {
        /// The path, or "descriptor".
        what: String,
    },
    /// `setns` into the namespace failed; the thread stays where it was.
    #[error("cannot enter network namespace: {0} (CAP_SYS_ADMIN is needed)")]
    Enter(io::Error),
    /// A new namespace cannot be made.
    #[error("cannot create a network namespace: {0} (CAP_SYS_ADMIN is needed)")]
    Create(io::Error),
    /// A new namespace is made, and its loopback interface cannot be brought up.
    #[error(
        "cannot bring up the loopback interface of a new network namespace: {0} (CAP_NET_ADMIN is needed)"
    )]
    Loopback(io::Error),
    /// The namespace cannot be bound to a path, or released from it.
    #[error("cannot {action} network namespace at {path}: {source}")]
    Pin {
        /// "pin" or "unpin".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The addresses of the namespace cannot be listed.
    #[error("cannot list the addresses of a network namespace: {0}")]
    Addresses(io::Error),
}

impl Namespace {
    /// Opens a pinned namespace or a `/proc/PID/ns/net` file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NamespaceError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| NamespaceError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        Self::checked(file.into(), || path.display().to_string())
    }

    /// Takes a descriptor that came from elsewhere, after asking the kernel what it is.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NamespaceError> {
        Self::checked(fd, || "the descriptor".to_string())
    }

    /// The namespace the calling thread is in.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(OWN_NAMESPACE)
    }

    /// Makes a new namespace, empty but for its loopback interface, which is up. It lives as long as a descriptor, a
    /// pin or a process holds it. Blocks for a few milliseconds.
    pub fn create() -> Result<Self, NamespaceError> {
        // A thread of its own, since unsharing cannot be undone.
        let maker = std::thread::Builder::new()
            .name("new-netns".into())
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Create(errno.into()))?;
                loopback_up().map_err(NamespaceError::Loopback)?;
                Self::current()
            })
            .map_err(NamespaceError::Create)?;
        maker
            .join()
            .map_err(|_| NamespaceError::Create(io::Error::other("the making thread panicked")))?
    }

    /// Runs `f` on this very thread inside the namespace and goes back.
    ///
    /// `f` must not block for long and must not hand out work that expects to stay inside: only what it does itself,
    /// on this thread, happens in the namespace. Sockets made inside stay inside. If the way back fails the process is
    /// aborted, since a thread in the wrong namespace would serve one pod with another's network.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> Result<R, NamespaceError> {
        // Not `current()`: this is on the path of every connection, and what the kernel calls ns/net needs no checks.
        let home = File::open(OWN_NAMESPACE).map_err(|source| NamespaceError::Open {
            path: OWN_NAMESPACE.into(),
            source,
        })?;
        setns(&*self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Enter(errno.into()))?;
        let _back = GoBack(home);
        Ok(f())
    }

    /// Binds the namespace to `path`, where it survives this process. An empty file is made there; a path that exists
    /// is an error.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), NamespaceError> {
        let path = path.as_ref();
        let fail = |source: io::Error| NamespaceError::Pin {
            action: "pin",
            path: path.to_path_buf(),
            source,
        };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let bound = mount(
            Some(source.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        bound.map_err(|errno| {
            let _ = fs::remove_file(path);
            fail(errno.into())
        })
    }

    /// Releases a pin made by [`Namespace::pin`] and removes its file. A path that is gone already, or is a plain file
    /// since its mount was lost, is no error.
    pub fn unpin(path: impl AsRef<Path>) -> Result<(), NamespaceError> {
        let path = path.as_ref();
        let fail = |source: io::Error| NamespaceError::Pin {
            action: "unpin",
            path: path.to_path_buf(),
            source,
        };
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(()),
        }
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// The descriptor, to be handed to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Every address of every interface inside, loopback included.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, NamespaceError> {
        let list = self.enter(nix::ifaddrs::getifaddrs)?;
        let list = list.map_err(|errno| NamespaceError::Addresses(errno.into()))?;
        let mut addresses: Vec<IpAddr> = list.filter_map(|entry| ip_of(&entry.address?)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    fn checked(fd: OwnedFd, what: impl Fn() -> String) -> Result<Self, NamespaceError> {
        if !is_network_namespace(fd.as_fd()) {
            return Err(NamespaceError::NotANetworkNamespace { what: what() });
        }
        let stat = nix::sys::stat::fstat(&fd).map_err(|errno| NamespaceError::Open {
            path: what().into(),
            source: errno.into(),
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            id: NamespaceId {
                dev: stat.st_dev,
                inode: stat.st_ino,
            },
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Namespace {}

impl From<NamespaceError> for io::Error {
    fn from(error: NamespaceError) -> Self {
        let kind = match &error {
            NamespaceError::Open { source, .. } | NamespaceError::Pin { source, .. } => source.kind(),
            NamespaceError::Enter(source)
            | NamespaceError::Create(source)
            | NamespaceError::Loopback(source)
            | NamespaceError::Addresses(source) => source.kind(),
            NamespaceError::NotANetworkNamespace { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Makes `directory` a mount of its own that passes on what is mounted below it, so that namespaces pinned there later
/// are seen by processes which [`crate::process::Command`] has given a mount namespace before. Doing it twice is
/// harmless; `umount` with `MNT_DETACH` (see [`Namespace::unpin`]) undoes it.
pub fn share_mounts_below(directory: &Path) -> io::Result<()> {
    let shared = MsFlags::MS_SHARED;
    let none = None::<&str>;
    if mount(none, directory, none, shared, none).is_ok() {
        return Ok(());
    }
    mount(Some(directory), directory, none, MsFlags::MS_BIND, none)?;
    mount(none, directory, none, shared, none)?;
    Ok(())
}

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Leads the thread home, also when the closure panics.
struct GoBack(File);

impl Drop for GoBack {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            eprintln!("fatal: this thread cannot return to its own network namespace ({errno}); aborting");
            std::process::abort();
        }
    }
}

/// Asks the kernel for the type of a namespace descriptor (ioctl_nsfs(2)).
fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; on other kinds of files it fails with ENOTTY.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

/// Brings `lo` up in the namespace of the calling thread.
fn loopback_up() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: all bytes zero is a valid `ifreq`: it consists of integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives on this stack frame, with a terminated name.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &request) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}

#[cfg(test)]
mod tests;
