//! Samples of what the threads of this process do while they use the processor: registers and the top of the stack.
//!
//! The kernel interrupts whichever thread has just used up a little of the processor (`ITIMER_PROF`, setitimer(2)).
//! What runs then, in the middle of whatever the thread was doing, takes no lock and no memory: it copies registers
//! and stack into a place that was made before. Who calls follows the frames later, on a thread of its own.

use std::cell::UnsafeCell;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod machine;

pub use machine::Registers;

/// The highest frequency, in samples for each second of processor time.
pub const MAX_FREQUENCY: u32 = 1000;

/// How much of a stack is copied, in bytes.
pub const STACK_COPIED: usize = 32 << 10;

/// How many samples may wait to be taken; further ones are counted and left out.
pub const MAX_WAITING: usize = 256;

/// How many places a sample looks at for a free one, from a different one each time.
const PROBES: usize = 8;

/// How long the end waits for threads that are in the middle of a sample.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// How much of the processor this process has used since it began, in all its threads.
pub fn processor_time() -> Duration {
    // SAFETY: all zeros is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: it points to a valid value. This clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// Only one can be at work.
    #[error("this process is being sampled already")]
    Busy,
    /// Something else in the process has the signal.
    #[error("something else in this process handles SIGPROF")]
    Taken,
    /// The registers of this processor are not known here.
    #[error("this processor's registers cannot be read")]
    Processor,
    /// The kernel says no.
    #[error("the kernel gives no samples: {0}")]
    Kernel(#[from] io::Error),
}

/// One look at one thread.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The thread's id, gettid(2).
    pub thread: i32,
    /// Where it was.
    pub registers: Registers,
    /// The memory from the stack pointer on, at most [`STACK_COPIED`] bytes. Empty where the kernel does not let a
    /// process read its own memory by process_vm_readv(2), as some sandboxes do not.
    pub stack: &'a [u8],
}

/// How many samples there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ticks of the clock, each of them a sample or lost.
    pub ticks: u64,
    /// Lost, because those before were not taken in time.
    pub lost: u64,
}

/// Samples the process while it lives. There is one at a time.
#[derive(Debug)]
pub struct Sampler {
    ring: *mut Ring,
}

// SAFETY: what it points to is `Sync`, and this is its one owner.
unsafe impl Send for Sampler {}

/// Whether there is a sampler.
static RUNNING: AtomicBool = AtomicBool::new(false);
/// Where samples go; null where there is no sampler.
static RING: AtomicPtr<Ring> = AtomicPtr::new(ptr::null_mut());
/// How many threads are in the signal's handler.
static HANDLING: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Ring {
    slots: Box<[Slot]>,
    next: AtomicUsize,
    ticks: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    state: AtomicU8,
    content: UnsafeCell<Content>,
}

#[derive(Debug)]
struct Content {
    thread: libc::pid_t,
    registers: Registers,
    copied: usize,
    stack: Box<[u8]>,
}

const FREE: u8 = 0;
const WRITING: u8 = 1;
const FULL: u8 = 2;
const READING: u8 = 3;

// SAFETY: the content of a slot is touched only by who has brought `state` from FREE to WRITING or from FULL to READING.
unsafe impl Sync for Ring {}

impl Sampler {
    /// Begins, with so many samples for each second of processor time that the process uses (1 to
    /// [`MAX_FREQUENCY`]; the kernel may give fewer).
    ///
    /// # Errors
    /// [`SamplingError`].
    pub fn start(frequency: u32) -> Result<Self, SamplingError> {
        if !machine::IS_KNOWN {
            return Err(SamplingError::Processor);
        }
        if RUNNING.swap(true, Ordering::SeqCst) {
            return Err(SamplingError::Busy);
        }
        let ring = Box::into_raw(Box::new(Ring::new()));
        // From here on dropping it undoes everything.
        let sampler = Self { ring };
        RING.store(ring, Ordering::SeqCst);
        listen()?;
        let frequency = frequency.clamp(1, MAX_FREQUENCY);
        tick(Duration::from_secs(1) / frequency)?;
        Ok(sampler)
    }

    /// Hands over what has been sampled since the last time.
    pub fn take(&mut self, mut each: impl FnMut(Sample<'_>)) {
        for slot in &self.ring().slots {
            let full = slot
                .state
                .compare_exchange(FULL, READING, Ordering::Acquire, Ordering::Relaxed);
            if full.is_err() {
                continue;
            }
            // SAFETY: the slot was just brought from FULL to READING.
            let content = unsafe { &*slot.content.get() };
            each(Sample {
                thread: content.thread,
                registers: content.registers,
                stack: content.stack.get(..content.copied).unwrap_or_default(),
            });
            slot.state.store(FREE, Ordering::Release);
        }
    }

    /// How many there were so far.
    pub fn counts(&self) -> Counts {
        let ring = self.ring();
        Counts {
            ticks: ring.ticks.load(Ordering::Relaxed),
            lost: ring.lost.load(Ordering::Relaxed),
        }
    }

    fn ring(&self) -> &Ring {
        // SAFETY: it was made by `start` and lives until `drop`.
        unsafe { &*self.ring }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // Nothing can be done about a kernel that does not stop its clock; what still comes is ignored.
        let _ = tick(Duration::ZERO);
        ignore();
        RING.store(ptr::null_mut(), Ordering::SeqCst);
        // A thread that has come into the handler before that may still write into the ring.
        let end = Instant::now() + END_DEADLINE;
        while HANDLING.load(Ordering::SeqCst) > 0 {
            if Instant::now() >= end {
                // A thread that stands still in there, as in a frozen container, keeps the memory: it is left to it.
                RUNNING.store(false, Ordering::SeqCst);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: it came from `Box::into_raw` in `start`; whoever comes into the handler now sees null, and nobody
        // who has seen it is still there.
        drop(unsafe { Box::from_raw(self.ring) });
        RUNNING.store(false, Ordering::SeqCst);
    }
}

impl Ring {
    fn new() -> Self {
        let slot = |_| Slot {
            state: AtomicU8::new(FREE),
            content: UnsafeCell::new(Content {
                thread: 0,
                registers: Registers::default(),
                copied: 0,
                stack: vec![0; STACK_COPIED].into_boxed_slice(),
            }),
        };
        Self {
            slots: (0..MAX_WAITING).map(slot).collect(),
            next: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Runs in the signal's handler: no lock, no memory, no panic.
    fn record(&self, registers: Registers) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.claim() else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // SAFETY: the slot was just brought from FREE to WRITING.
        let content = unsafe { &mut *slot.content.get() };
        // SAFETY: a bare system call without arguments, which may be made in a handler.
        content.thread = unsafe { libc::gettid() };
        content.registers = registers;
        content.copied = copy(registers.sp, &mut content.stack);
        slot.state.store(FULL, Ordering::Release);
    }

    fn claim(&self) -> Option<&Slot> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..PROBES).find_map(|further| {
            let slot = self.slots.get(first.wrapping_add(further) % MAX_WAITING)?;
            let free = slot
                .state
                .compare_exchange(FREE, WRITING, Ordering::Acquire, Ordering::Relaxed);
            free.is_ok().then_some(slot)
        })
    }
}

/// What the kernel calls, on the interrupted thread.
extern "C" fn on_tick(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: always valid on this thread. It is the interrupted code's, and is put back below.
    let errno = unsafe { *libc::__errno_location() };
    HANDLING.fetch_add(1, Ordering::SeqCst);
    let ring = RING.load(Ordering::SeqCst);
    if !ring.is_null() && !context.is_null() {
        // SAFETY: `Sampler::drop` frees the ring only after it has made RING null and then has seen HANDLING at 0, and
        // this thread has raised HANDLING before it read RING.
        let ring = unsafe { &*ring };
        // SAFETY: with SA_SIGINFO the third argument is the interrupted context (sigaction(2)).
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        ring.record(Registers::of(context));
    }
    HANDLING.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Copies this process' memory from `from` on, as far as there is any; returns how much. The kernel does it, so that
/// the end of a stack need not be known: where nothing can be read it stops instead of a fault.
fn copy(from: u64, into: &mut [u8]) -> usize {
    // No larger than any kernel's page, since a piece is copied whole or not at all.
    const PIECE: usize = 4096;
    const PIECES: usize = STACK_COPIED / PIECE + 1;
    let nothing = libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    };
    let mut pieces = [nothing; PIECES];
    let (mut address, mut left, mut count) = (from as usize, into.len(), 0);
    for piece in &mut pieces {
        if left == 0 {
            break;
        }
        let length = (PIECE - address % PIECE).min(left);
        piece.iov_base = address as *mut libc::c_void;
        piece.iov_len = length;
        address = address.wrapping_add(length);
        left -= length;
        count += 1;
    }
    let whole = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: `whole` is ours to be written; the pieces are only read, by the kernel, which checks them; both calls are
    // bare system calls, which may be made in a handler.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &whole, 1, pieces.as_ptr(), count, 0) };
    usize::try_from(copied).unwrap_or_default()
}

/// Has the signal handled here.
fn listen() -> Result<(), SamplingError> {
    // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_tick as *const () as libc::sighandler_t;
    // On the thread's own signal stack where it has one, and so that system calls go on afterwards.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    let before = set_action(&action)?;
    let ours = before.sa_sigaction == action.sa_sigaction;
    if ours || matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return Ok(());
    }
    set_action(&before)?;
    Err(SamplingError::Taken)
}

/// Has the signal ignored from now on, one that is on its way included. Never back to the default, which would end the
/// process.
fn ignore() {
    // SAFETY: as in `listen`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_IGN;
    // If that fails, our handler stays, and does nothing without a ring. Somebody else's is not touched.
    if current_action().is_ok_and(|now| now.sa_sigaction == on_tick as *const () as libc::sighandler_t) {
        let _ = set_action(&action);
    }
}

fn set_action(action: &libc::sigaction) -> io::Result<libc::sigaction> {
    // SAFETY: as in `listen`.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to valid values; the handler keeps to what is allowed in one.
    match unsafe { libc::sigaction(libc::SIGPROF, action, &mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

fn current_action() -> io::Result<libc::sigaction> {
    // SAFETY: as in `listen`.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: null asks for the action without setting one.
    match unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), &mut now) } {
        0 => Ok(now),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the signal sent after each `period` of processor time; zero for never.
fn tick(period: Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: period.as_secs() as libc::time_t,
        tv_usec: period.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: the timer is valid; null asks for no old one.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
