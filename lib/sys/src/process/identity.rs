//! Which process a process id means.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::sys::signal::Signal;

/// When the process started, in clock ticks since boot (field 22 of /proc/PID/stat). Process ids are reused; a pair of
/// id and start time is not.
pub fn start_time(pid: u32) -> io::Result<u64> {
    stat(pid).map(|stat| stat.start_time)
}

/// Whether that very process still runs. A zombie does not.
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    stat(pid).is_ok_and(|stat| stat.start_time == start_time && !stat.ended)
}

/// Signals that very process. `Ok(false)`: it is gone, and whoever has its id now was left alone.
pub fn kill(pid: u32, start_time: u64, signal: Signal) -> io::Result<bool> {
    // The descriptor is taken first and the start time compared after: from then on it cannot come to mean another.
    let Some(handle) = open(pid)? else {
        return Ok(false);
    };
    if !is_alive(pid, start_time) {
        return Ok(false);
    }
    // SAFETY: pidfd_send_signal(fd, signal, NULL, 0) reads nothing from memory.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            handle.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match answer {
        0 => Ok(true),
        _ => gone_or(io::Error::last_os_error()),
    }
}

/// Signals the process group which that very process leads or led: it and the children that stayed in its group.
/// `Ok(false)`: none of them is left.
///
/// While a member lives, the kernel gives the leader's id to nobody else; so if the id belongs to another process now,
/// the whole group is gone.
pub fn kill_group(leader: u32, start_time: u64, signal: Signal) -> io::Result<bool> {
    let pid = pid_of(leader)?;
    if stat(leader).is_ok_and(|stat| stat.start_time != start_time) {
        return Ok(false);
    }
    match nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), signal) {
        Ok(()) => Ok(true),
        Err(errno) => gone_or(errno.into()),
    }
}

struct Stat {
    start_time: u64,
    ended: bool,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets and may itself contain brackets and spaces.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next();
    let start_time = fields.nth(18).and_then(|field| field.parse().ok());
    match (state, start_time) {
        (Some(state), Some(start_time)) => Ok(Stat {
            start_time,
            ended: matches!(state, "Z" | "X"),
        }),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat is not understood"),
        )),
    }
}

fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: pidfd_open(pid, 0) takes integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid_of(pid)?, 0) };
    if fd < 0 {
        return gone_or(io::Error::last_os_error()).map(|_| None);
    }
    // SAFETY: just made for us; a descriptor always fits an int.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// A process id that may be signalled: 0 and negative numbers mean whole groups to the kernel.
fn pid_of(pid: u32) -> io::Result<i32> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{pid} is no process id to signal"),
        )
    })
}

fn gone_or(error: io::Error) -> io::Result<bool> {
    if error.raw_os_error() == Some(libc::ESRCH) {
        Ok(false)
    } else {
        Err(error)
    }
}
