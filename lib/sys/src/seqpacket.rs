//! Unix SOCK_SEQPACKET connections that carry whole records and file descriptors.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Descriptors accepted with one record. More is an error, and they are closed.
pub const MAX_DESCRIPTORS: usize = 4;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 16;

/// Waits for connections on a path. The socket file is removed when the listener goes.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<Socket>,
    path: PathBuf,
    /// Device and inode of the socket file.
    file: (u64, u64),
}

impl Listener {
    /// Binds to `path` with mode 0600. A socket file that nobody listens on any more is replaced; one that is in use
    /// fails with [`io::ErrorKind::AddrInUse`]. Needs a tokio runtime.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let address = address_of(path)?;
        let socket = make()?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            other => other?,
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            socket: asynchronous(socket)?,
            path: path.to_path_buf(),
            file: identity_of(path)?,
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Connection> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
                let (socket, _) = accepted?;
                socket.set_nonblocking(true)?;
                return Connection::new(socket);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Unless somebody else listens there by now.
        if identity_of(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who is at the other end (SO_PEERCRED), as of the moment it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id, in this process' pid namespace.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One connection. Records keep their borders.
#[derive(Debug)]
pub struct Connection {
    socket: AsyncFd<Socket>,
}

impl Connection {
    /// Connects to the listener at `path`. Needs a tokio runtime.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = make()?;
        // A unix socket connects at once, or fails with EAGAIN when the backlog is full.
        socket.connect(&address_of(path.as_ref())?)?;
        Self::new(socket)
    }

    /// Sends one record, and with it a descriptor.
    pub async fn send(&self, record: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(sent) = ready.try_io(|socket| send_record(socket.get_ref(), record, descriptor)) {
                return sent;
            }
        }
    }

    /// Receives one record of at most `max` bytes with its descriptors (close-on-exec). The end of the connection is
    /// [`io::ErrorKind::UnexpectedEof`]; a record that is longer, or carries more than [`MAX_DESCRIPTORS`], is
    /// [`io::ErrorKind::InvalidData`] and is lost, its descriptors closed.
    ///
    /// Cancel safe: a record is either returned or still in the socket.
    pub async fn recv(&self, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(received) = ready.try_io(|socket| receive_record(socket.get_ref(), max)) {
                return received;
            }
        }
    }

    /// Who is at the other end.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        let credentials = nix::sys::socket::getsockopt(
            &self.socket.get_ref().as_fd(),
            nix::sys::socket::sockopt::PeerCredentials,
        )?;
        Ok(PeerCredentials {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
        })
    }

    fn new(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            socket: asynchronous(socket)?,
        })
    }
}

fn make() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn asynchronous(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a socket2 socket owns one descriptor, gives out that very one each time and closes it only when dropped.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(|error| io::Error::other(error.to_string()))
}

fn address_of(path: &Path) -> io::Result<SockAddr> {
    SockAddr::unix(path).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "socket path {} is too long: use one shorter than 108 bytes",
                path.display()
            ),
        )
    })
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Whether the socket file is a leftover: connecting is refused.
fn is_abandoned(path: &Path) -> bool {
    let attempt = make().and_then(|socket| socket.connect(&address_of(path)?));
    matches!(attempt, Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED))
}

fn send_record(socket: &Socket, record: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let raw = descriptor.map(|fd| [fd.as_raw_fd()]);
    let control: Vec<ControlMessage<'_>> = raw
        .iter()
        .map(|fds| ControlMessage::ScmRights(fds.as_slice()))
        .collect();
    let data = [io::IoSlice::new(record)];
    sendmsg::<()>(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

fn receive_record(socket: &Socket, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    // Aligned for `cmsghdr`, with room for one control message of MAX_DESCRIPTORS descriptors.
    let mut control = [0u64; 8];
    let mut record = vec![0u8; max];
    let mut data = libc::iovec {
        iov_base: record.as_mut_ptr().cast(),
        iov_len: record.len(),
    };
    // SAFETY: all bytes zero is a valid `msghdr`: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE is arithmetic only.
    message.msg_controllen =
        unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<i32>()) as u32) } as usize;
    debug_assert!(message.msg_controllen <= size_of_val(&control));
    // SAFETY: `message` points to `record` and `control`, which outlive the call, with lengths not above their sizes.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // Owned before anything is judged, so that no refusal leaks a descriptor.
    let descriptors = take_descriptors(&message);
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(invalid(format!("the peer sent a record longer than {max} bytes")));
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(invalid(format!(
            "the peer sent more than {MAX_DESCRIPTORS} descriptors with a record"
        )));
    }
    if length == 0 && descriptors.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the peer closed the connection",
        ));
    }
    record.truncate(length.unsigned_abs());
    Ok((record, descriptors))
}

fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: `message` was filled in by recvmsg and its control buffer is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header that lies wholly in the control buffer, which
        // is aligned for it.
        let control = unsafe { *header };
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN is arithmetic only.
            let bytes = control
                .cmsg_len
                .saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..bytes / size_of::<i32>() {
                // SAFETY: the kernel wrote `bytes` bytes of descriptors after this header; they need not be aligned.
                let raw = unsafe { libc::CMSG_DATA(header).cast::<i32>().add(index).read_unaligned() };
                // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows of it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `header` came from it or from this call.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
