//! Interfaces whose other end is this process (tuntap): what the kernel sends out of them is read here, and what is
//! written here arrives on them. Good for links that delay or lose on purpose.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use tokio::io::unix::AsyncFd;

use crate::Namespace;

/// The longest interface name, in bytes.
const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// What such an interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// IP packets (TUN).
    Packets,
    /// Ethernet frames (TAP).
    Frames,
}

/// The near end of an interface in some namespace. The interface vanishes when this is dropped.
#[derive(Debug)]
pub struct Tun {
    device: AsyncFd<std::fs::File>,
}

impl Tun {
    /// Makes the interface `name` in the namespace, down and without addresses. Needs a tokio runtime.
    pub fn create(namespace: &Namespace, name: &str, layer: Layer) -> io::Result<Self> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\0', '%', ' ']) {
            let text =
                format!("{name:?} is no name for an interface: use 1 to {MAX_NAME} letters and digits");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // The device belongs to the namespace of whoever opens the file.
        let device = namespace.enter(|| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open("/dev/net/tun")
        })??;
        // SAFETY: all bytes zero is a valid `ifreq`: it consists of integers and arrays of them.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *slot = byte as libc::c_char;
        }
        let kind = match layer {
            Layer::Packets => libc::IFF_TUN,
            Layer::Frames => libc::IFF_TAP,
        };
        request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives on this stack frame; its name is shorter than the
        // array, so it stays terminated.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a file owns one descriptor, gives out that very one each time and closes it only when dropped.
        let registered = unsafe { AsyncFd::register(device) };
        let device = registered.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { device })
    }

    /// The next packet or frame that the kernel sends out of the interface. What does not fit is cut off. Cancel safe.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.device.readable().await?;
            if let Ok(read) = ready.try_io(|device| device.get_ref().read(buffer)) {
                return read;
            }
        }
    }

    /// Lets one packet or frame arrive on the interface.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.device.writable().await?;
            if let Ok(written) = ready.try_io(|device| device.get_ref().write(packet)) {
                return written.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests;
