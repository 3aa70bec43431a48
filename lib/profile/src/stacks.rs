//! Which stacks were seen, in threads of which name, and how often.

use std::collections::HashMap;
use std::fs;

/// The most different stacks that are told apart; others are only counted.
pub const MAX_STACKS: usize = 16_384;

/// The most threads whose names are known; others have none.
const MAX_THREADS: usize = 4096;

/// Counts stacks.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    seen: HashMap<Stack, u64>,
    threads: Threads,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Stack {
    /// Place in the list of names.
    thread: usize,
    /// Addresses, the innermost frame first.
    frames: Box<[u64]>,
}

/// One stack, as often as it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// Name of the thread; empty where it is not known.
    pub(crate) thread: &'a str,
    pub(crate) frames: &'a [u64],
    pub(crate) times: u64,
}

impl Stacks {
    /// Counts one more time.
    pub(crate) fn count(&mut self, thread: i32, frames: &[u64]) {
        let stack = Stack {
            thread: self.threads.name(thread),
            frames: frames.into(),
        };
        if let Some(times) = self.seen.get_mut(&stack) {
            *times += 1;
        } else if self.seen.len() < MAX_STACKS {
            self.seen.insert(stack, 1);
        } else {
            self.left_out += 1;
        }
    }

    /// Samples whose stacks were too many to be told apart.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Seen<'_>> {
        self.seen.iter().map(|(stack, times)| Seen {
            thread: self.threads.names.get(stack.thread).map_or("", String::as_str),
            frames: &stack.frames,
            times: *times,
        })
    }
}

/// Names of threads.
#[derive(Debug, Default)]
struct Threads {
    known: HashMap<i32, usize>,
    names: Vec<String>,
}

impl Threads {
    /// The place of a thread's name in the list; one that is not there for none.
    fn name(&mut self, thread: i32) -> usize {
        if let Some(place) = self.known.get(&thread) {
            return *place;
        }
        if self.known.len() >= MAX_THREADS {
            return usize::MAX;
        }
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        let name = name.trim_end();
        let place = self.names.iter().position(|known| known == name);
        let place = place.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.known.insert(thread, place);
        place
    }
}
