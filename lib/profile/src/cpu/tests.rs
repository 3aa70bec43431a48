//! Profiles of this very process.

use super::*;
use crate::messages::{Profile, Sample};
use flate2::read::GzDecoder;
use prost::Message;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PATIENCE: Duration = Duration::from_secs(120);

/// There is one profile at a time in a process, and so of the tests.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(never)]
fn innermost_of_the_test(stop: &AtomicBool) -> u64 {
    let mut sum = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for number in 0..10_000_u64 {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    sum
}

#[inline(never)]
fn caller_of_the_test(stop: &AtomicBool) -> u64 {
    black_box(innermost_of_the_test(stop)) + 1
}

/// A thread that uses the processor until this is dropped.
struct Busy(Arc<AtomicBool>, Option<std::thread::JoinHandle<u64>>);

impl Busy {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("busy".into());
        let thread = thread.spawn(move || caller_of_the_test(&told)).unwrap();
        Self(stop, Some(thread))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

fn read(bytes: &[u8]) -> Profile {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    Profile::decode(plain.as_slice()).unwrap()
}

/// The names of a sample's functions, innermost first.
fn names(profile: &Profile, sample: &Sample) -> Vec<String> {
    let text = |place: i64| profile.string_table[place as usize].clone();
    let name = |id: &u64| {
        let location = &profile.location[*id as usize - 1];
        assert_eq!(location.id, *id);
        location.line.first().map_or_else(String::new, |line| {
            text(profile.function[line.function_id as usize - 1].name)
        })
    };
    sample.location_id.iter().map(name).collect()
}

#[test]
fn a_profile_names_the_functions_that_run_and_their_callers() {
    let _alone = alone();
    let _busy = Busy::new();
    let settings = CpuSettings {
        duration: Duration::from_millis(500),
        frequency: 100,
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let profile = read(&cpu(settings, || true).unwrap());
        let kinds = profile.sample_type.iter();
        let kinds: Vec<_> = kinds
            .map(|kind| profile.string_table[kind.r#type as usize].as_str())
            .collect();
        assert_eq!(kinds, ["samples", "cpu"]);
        assert!(profile.duration_nanos >= 500_000_000 && profile.time_nanos > 0);
        let whole = profile.sample.iter().any(|sample| {
            let names = names(&profile, sample);
            let at = |part: &str| names.iter().position(|name| name.contains(part));
            let (inner, outer) = (at("innermost_of_the_test"), at("caller_of_the_test"));
            let label = sample.label[0];
            let (key, thread) = (label.key as usize, label.str as usize);
            assert_eq!(profile.string_table[key], "thread");
            // Down to where the thread begins.
            inner.zip(outer).is_some_and(|(inner, outer)| inner < outer)
                && profile.string_table[thread] == "busy"
                && names[outer.unwrap_or_default()..]
                    .iter()
                    .any(|name| name.contains("thread"))
        });
        if whole {
            assert!(profile.period > 0);
            let spent: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
            let seen: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
            assert_eq!(spent, seen * profile.period);
            break;
        }
        assert!(Instant::now() < end, "the busy thread is never seen: {profile:?}");
    }
}

#[test]
fn a_second_profile_waits_for_nobody_and_one_that_nobody_wants_ends() {
    let _alone = alone();
    let wanted = Arc::new(AtomicBool::new(true));
    let running = Arc::new(AtomicBool::new(false));
    let (asked, told) = (wanted.clone(), running.clone());
    let first = std::thread::spawn(move || {
        let settings = CpuSettings {
            duration: MAX_DURATION,
            frequency: 50,
        };
        cpu(settings, || {
            // Asked for the first time once samples are being taken.
            told.store(true, Ordering::SeqCst);
            asked.load(Ordering::SeqCst)
        })
    });
    let end = Instant::now() + PATIENCE;
    while !running.load(Ordering::SeqCst) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    let settings = CpuSettings {
        duration: Duration::from_millis(10),
        frequency: 50,
    };
    let second = cpu(settings, || true);
    assert!(matches!(second, Err(ProfileError::Sampling(SamplingError::Busy))));
    wanted.store(false, Ordering::SeqCst);
    assert!(matches!(first.join().unwrap(), Err(ProfileError::Cancelled)));
    cpu(settings, || true).unwrap();
}

#[test]
fn a_profile_is_well_formed() {
    let _alone = alone();
    let _busy = Busy::new();
    let settings = CpuSettings {
        duration: Duration::from_millis(300),
        frequency: crate::MAX_FREQUENCY,
    };
    let profile = read(&cpu(settings, || true).unwrap());
    assert_eq!(profile.string_table[0], "");
    let texts: BTreeSet<&String> = profile.string_table.iter().collect();
    assert_eq!(texts.len(), profile.string_table.len(), "each text once");
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), 2);
        assert!(!sample.location_id.is_empty());
        for id in &sample.location_id {
            assert!((1..=profile.location.len() as u64).contains(id));
        }
    }
    for location in &profile.location {
        if let Some(mapping) = location.mapping_id.checked_sub(1) {
            let mapping = &profile.mapping[mapping as usize];
            assert!((mapping.memory_start..mapping.memory_limit).contains(&location.address));
        }
        for line in &location.line {
            assert!((1..=profile.function.len() as u64).contains(&line.function_id));
        }
    }
}
