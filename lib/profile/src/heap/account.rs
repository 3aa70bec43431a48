//! The allocator's account of its samples, in the text that jeprof, its own tool, reads:
//!
//! ```text
//! heap_v2/524288
//!   t*: 3: 1310736 [0: 0]
//! @ 0x55d0c0de 0x55d0beef
//!   t*: 3: 1310736 [0: 0]
//!   t7: 3: 1310736 [0: 0]
//!
//! MAPPED_LIBRARIES:
//! ```
//!
//! `heap_v2/` is followed by the mean number of bytes between samples, `@` by the return addresses of a stack, `t*` by
//! what is in use of it in all threads: objects and bytes. What is said of single threads, of everything since the
//! beginning (in brackets), and of files is passed over.

use crate::stacks::MAX_STACKS;
use crate::unwind::MAX_FRAMES;

/// Why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the allocator's account of its samples has an unexpected line {line}: {text:?}")]
pub struct AccountError {
    /// Its number, from 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
}

/// What is in use, by stack.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Account {
    /// Mean bytes from one sample to the next.
    pub(super) period: u64,
    /// Stacks beyond [`MAX_STACKS`].
    pub(super) left_out: usize,
    stacks: Vec<(Vec<u64>, Used)>,
}

/// What was sampled and is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl Account {
    pub(super) fn read(text: &[u8]) -> Result<Self, AccountError> {
        let mut lines = text.split(|byte| *byte == b'\n').zip(1..);
        let mut account = Self::default();
        let (first, number) = lines.next().unwrap_or_default();
        let period = words(first).and_then(|first| first.strip_prefix("heap_v2/")?.parse().ok());
        account.period = period.ok_or_else(|| unexpected(first, number))?;
        let mut stack: Option<Vec<u64>> = None;
        for (line, number) in lines {
            if line.starts_with(b"MAPPED_LIBRARIES") {
                break;
            } else if let Some(addresses) = line.strip_prefix(b"@") {
                stack = Some(frames(addresses).ok_or_else(|| unexpected(line, number))?);
            } else if line.trim_ascii_start().starts_with(b"t*:")
                // The first is of no stack but of all.
                && let Some(frames) = stack.take()
            {
                let used = used(line).ok_or_else(|| unexpected(line, number))?;
                account.add(frames, used);
            }
        }
        Ok(account)
    }

    /// Addresses of instructions, the innermost frame first, and what is in use.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (&[u64], &Used)> {
        self.stacks.iter().map(|(frames, used)| (frames.as_slice(), used))
    }

    fn add(&mut self, frames: Vec<u64>, used: Used) {
        if self.stacks.len() < MAX_STACKS {
            self.stacks.push((frames, used));
        } else {
            self.left_out += 1;
        }
    }
}

impl Used {
    /// Objects and bytes of all that was allocated, sampled or not. An object is sampled with the probability
    /// 1 − e^(−size/period), since the distance from one sample to the next is exponentially distributed.
    pub(super) fn estimated(self, period: u64) -> (i64, i64) {
        if self.objects == 0 || self.bytes == 0 || period == 0 {
            return (0, 0);
        }
        let size = self.bytes as f64 / self.objects as f64;
        let sampled = -(-size / period as f64).exp_m1();
        let whole = |number: u64| (number as f64 / sampled).round() as i64;
        (whole(self.objects), whole(self.bytes))
    }
}

fn words(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()
}

fn frames(addresses: &[u8]) -> Option<Vec<u64>> {
    let addresses = words(addresses)?.split_ascii_whitespace().take(MAX_FRAMES);
    let read = addresses.map(|address| {
        let returns_to = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        // The call is before what it returns to, which may belong to something else already.
        Some(returns_to.saturating_sub(1))
    });
    read.collect()
}

fn used(line: &[u8]) -> Option<Used> {
    let mut fields = words(line)?.split(':').skip(1);
    let (objects, rest) = (fields.next()?, fields.next()?);
    Some(Used {
        objects: objects.trim().parse().ok()?,
        bytes: rest.split_ascii_whitespace().next()?.parse().ok()?,
    })
}

fn unexpected(line: &[u8], number: usize) -> AccountError {
    const SHOWN: usize = 80;
    AccountError {
        line: number,
        text: String::from_utf8_lossy(&line[..line.len().min(SHOWN)]).into_owned(),
    }
}

#[cfg(test)]
mod tests;
