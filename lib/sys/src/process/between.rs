//! What happens between fork and exec.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::sched::CloneFlags;

use super::SpawnError;
use crate::Namespace;

/// A pipe on which the child names the step that failed, since std passes on the error number only.
pub(super) struct Steps(OwnedFd);

impl Steps {
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let mut ends = [0; 2];
        // SAFETY: pipe2 writes two descriptors into the array.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just made for us and are owned by nobody else.
        Ok(unsafe { (Self(OwnedFd::from_raw_fd(ends[0])), OwnedFd::from_raw_fd(ends[1])) })
    }

    pub(super) fn explain(&self, program: String, source: io::Error) -> SpawnError {
        let mut step = [0u8];
        let told = nix::unistd::read(&self.0, &mut step) == Ok(1);
        match step[0] {
            STEP_NETWORK if told => SpawnError::Start {
                program,
                step: "entering its network namespace",
                source,
            },
            STEP_MOUNTS if told => SpawnError::Start {
                program,
                step: "making its mount namespace",
                source,
            },
            STEP_FILES if told => SpawnError::Start {
                program,
                step: "binding files in its mount namespace",
                source,
            },
            _ if source.kind() == io::ErrorKind::NotFound => SpawnError::NotFound { program },
            _ => SpawnError::Start {
                program,
                step: "executing it",
                source,
            },
        }
    }
}

const STEP_NETWORK: u8 = 1;
const STEP_MOUNTS: u8 = 2;
const STEP_FILES: u8 = 3;

/// Runs in the child between fork and exec: system calls only, no allocation.
pub(super) fn enter_namespaces(
    network: Option<&Namespace>,
    files: &[(CString, CString)],
    report: &OwnedFd,
) -> io::Result<()> {
    let failed = |step: u8| {
        let error = io::Error::last_os_error();
        // SAFETY: writes one byte from the stack to a pipe this process owns.
        unsafe { libc::write(report.as_raw_fd(), (&raw const step).cast(), 1) };
        error
    };
    if let Some(network) = network {
        // SAFETY: plain system call on an open descriptor.
        if unsafe { libc::setns(network.as_fd().as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(failed(STEP_NETWORK));
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    // SAFETY: plain system calls; the strings are terminated and outlive them.
    unsafe {
        if libc::unshare(CloneFlags::CLONE_NEWNS.bits()) != 0 {
            return Err(failed(STEP_MOUNTS));
        }
        // A slave, not private: namespaces pinned later, where their directory is shared, are seen here too.
        let flags = libc::MS_REC | libc::MS_SLAVE;
        if libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        ) != 0
        {
            return Err(failed(STEP_MOUNTS));
        }
        for (source, target) in files {
            let (from, to) = (source.as_ptr(), target.as_ptr());
            if libc::mount(from, to, std::ptr::null(), libc::MS_BIND, std::ptr::null()) != 0 {
                return Err(failed(STEP_FILES));
            }
        }
    }
    Ok(())
}
