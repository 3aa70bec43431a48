//! Taking a profile of the processor's use.

use crate::modules::{self, ModulesError};
use crate::pprof::{self, Content, Row};
use crate::stacks::{Seen, Stacks};
use crate::unwind::Unwinding;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use sys::sampling::{Sampler, SamplingError, processor_time};

/// The longest profile.
pub const MAX_DURATION: Duration = Duration::from_secs(300);

/// How often samples are taken over: much more often than their room fills up.
const TAKE_EVERY: Duration = Duration::from_millis(20);

/// How a profile is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSettings {
    /// For how long, at most [`MAX_DURATION`].
    pub duration: Duration,
    /// How many samples for each second of processor time, 1 to [`crate::MAX_FREQUENCY`]. The kernel gives no more than
    /// its own clock has ticks.
    pub frequency: u32,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No samples.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// It is not known what is loaded where.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The caller wants it no more.
    #[error("the profile is not wanted any more")]
    Cancelled,
    /// The result cannot be written.
    #[error("the profile cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Samples this process and gives a profile in pprof's form (`profile.proto`, compressed by gzip). Blocks for the
/// duration, or until `wanted` says no.
///
/// # Errors
/// [`ProfileError`]; one profile can be taken at a time.
pub fn cpu(settings: CpuSettings, wanted: impl Fn() -> bool) -> Result<Vec<u8>, ProfileError> {
    let modules = modules::loaded()?;
    let mut unwinding = Unwinding::new(&modules);
    let mut stacks = Stacks::default();
    let began = SystemTime::now();
    let start = Instant::now();
    let end = start + settings.duration.min(MAX_DURATION);
    let used_before = processor_time();
    let mut sampler = Sampler::start(settings.frequency)?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !wanted() {
            break;
        }
        thread::sleep(left.min(TAKE_EVERY));
        sampler.take(|sample| stacks.count(sample.thread, unwinding.frames(sample)));
    }
    let counts = sampler.counts();
    drop(sampler);
    if !wanted() {
        return Err(ProfileError::Cancelled);
    }
    // As it was, which may be less often than it was asked for.
    let used = processor_time().saturating_sub(used_before);
    let period = used / u32::try_from(counts.ticks).unwrap_or(u32::MAX).max(1);
    let content = Content {
        values: &[("samples", "count"), ("cpu", "nanoseconds")],
        began: Some(began),
        duration: start.elapsed(),
        period: pprof::nanoseconds(period),
        remarks: remarks(counts.lost, stacks.left_out()),
        ..Content::default()
    };
    Ok(pprof::write(&of_stacks(content, &stacks), &modules)?)
}

fn of_stacks<'a>(content: Content<'a>, stacks: &'a Stacks) -> Content<'a> {
    let row = |seen: Seen<'a>| {
        let times = i64::try_from(seen.times).unwrap_or(i64::MAX);
        Row {
            frames: seen.frames,
            values: vec![times, times.saturating_mul(content.period)],
            thread: Some(seen.thread),
        }
    };
    Content {
        rows: stacks.iter().map(row).collect(),
        ..content
    }
}

fn remarks(lost: u64, left_out: u64) -> Vec<String> {
    let remarks = [
        (lost, "samples lost because they came too fast"),
        (
            left_out,
            "samples left out because there were too many different stacks",
        ),
    ];
    let remarks = remarks.into_iter().filter(|(how_many, _)| *how_many > 0);
    remarks
        .map(|(how_many, what)| format!("{how_many} {what}"))
        .collect()
}

#[cfg(test)]
mod tests;
