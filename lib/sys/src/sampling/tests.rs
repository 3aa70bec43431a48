use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// The sampler is one for the process, and so are its tests.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that use the processor until this is dropped: computing, allocating, and in system calls.
struct Busy {
    stop: std::sync::Arc<AtomicBool>,
    marks: Vec<(usize, u64)>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn new(count: u64) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (sender, marks) = std::sync::mpsc::channel();
        let threads = (0..count).map(|number| {
            let (stop, sender) = (stop.clone(), sender.clone());
            std::thread::spawn(move || {
                // By this its stack is known.
                let mark = black_box(0x5eed_5eed_0000_0000 | number);
                sender.send((ptr::from_ref(&mark) as usize, mark)).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let memory: Vec<u64> = black_box((0..512).collect());
                    black_box(memory.iter().sum::<u64>());
                    let _ = black_box(std::fs::metadata("/proc/self"));
                }
                black_box(&mark);
            })
        });
        let threads = threads.collect::<Vec<_>>();
        let marks = marks.iter().take(count as usize).collect();
        Self { stop, marks, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[test]
fn samples_hold_the_stacks_of_the_threads_that_run() {
    let _alone = alone();
    let busy = Busy::new(2);
    let mut sampler = Sampler::start(500).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    let mut samples = 0;
    while seen.len() < busy.marks.len() || samples < 100 {
        assert!(Instant::now() < end, "{samples} samples, of {seen:?}");
        std::thread::sleep(Duration::from_millis(10));
        sampler.take(|sample| {
            samples += 1;
            assert!(sample.thread > 0 && sample.registers.pc != 0 && sample.registers.sp != 0);
            for (address, mark) in &busy.marks {
                let offset = (*address as u64).wrapping_sub(sample.registers.sp) as usize;
                let there = sample.stack.get(offset..).and_then(|rest| rest.get(..8));
                if there.is_some_and(|bytes| bytes == mark.to_ne_bytes()) {
                    seen.insert(*mark);
                }
            }
        });
    }
    let counts = sampler.counts();
    assert!(
        counts.ticks >= samples + counts.lost,
        "{counts:?}, {samples} taken"
    );
}

#[test]
fn there_is_one_at_a_time_and_the_signal_is_harmless_afterwards() {
    let _alone = alone();
    let first = Sampler::start(100).unwrap();
    assert!(matches!(Sampler::start(100), Err(SamplingError::Busy)));
    drop(first);
    // The default action would end this process.
    // SAFETY: it only raises a signal that is ignored.
    assert_eq!(unsafe { libc::raise(libc::SIGPROF) }, 0);
    drop(Sampler::start(100).unwrap());
}

#[test]
fn somebody_elses_handler_is_left_alone() {
    extern "C" fn theirs(_: libc::c_int) {}
    let _alone = alone();
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = theirs as *const () as libc::sighandler_t;
    set_action(&action).unwrap();
    assert!(matches!(Sampler::start(100), Err(SamplingError::Taken)));
    assert_eq!(current_action().unwrap().sa_sigaction, action.sa_sigaction);
    action.sa_sigaction = libc::SIG_IGN;
    set_action(&action).unwrap();
}

#[test]
fn beginning_and_ending_under_load_loses_nothing_but_samples() {
    let _alone = alone();
    let busy = Busy::new(4);
    let mut ticks = 0;
    let end = Instant::now() + PATIENCE;
    // Nobody takes the samples: they are lost when there is no room, and the threads go on.
    for round in 0.. {
        let mut sampler = Sampler::start(MAX_FREQUENCY).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        if round % 2 == 0 {
            sampler.take(|sample| assert!(sample.stack.len() <= STACK_COPIED));
        }
        ticks += sampler.counts().ticks;
        if round >= 200 && ticks >= 100 {
            break;
        }
        assert!(Instant::now() < end, "{ticks} ticks in {round} rounds");
    }
    drop(busy);
}

#[test]
fn a_copy_ends_where_memory_ends() {
    // SAFETY: a fresh mapping of two pages, of which the second cannot be read.
    let base = unsafe {
        let pages = libc::mmap(
            ptr::null_mut(),
            2 * 65536,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(pages, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(pages.byte_add(65536), 65536, libc::PROT_NONE), 0);
        pages
    };
    let mut into = vec![1; STACK_COPIED];
    let copied = copy(base as u64 + 65536 - 5000, &mut into);
    assert_eq!(copied, 5000);
    assert!(into[..5000].iter().all(|byte| *byte == 0) && into[5000] == 1);
    assert_eq!(copy(base as u64 + 65536, &mut into), 0);
    assert_eq!(copy(0, &mut into), 0);
    assert_eq!(copy(u64::MAX - 10, &mut into), 0);
    // SAFETY: it is this test's own mapping.
    unsafe { libc::munmap(base, 2 * 65536) };
}
