use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes moved by a running relay, readable from any thread at any moment.
///
/// A byte counts once the receiving end has taken it: the kernel's send buffer, or the stream's send queue within
/// its flow-control window.
#[derive(Debug, Default)]
pub struct Counters {
    a_to_b: AtomicU64,
    b_to_a: AtomicU64,
}

impl Counters {
    /// Both counts at zero.
    pub const fn new() -> Self {
        Self {
            a_to_b: AtomicU64::new(0),
            b_to_a: AtomicU64::new(0),
        }
    }

    /// Bytes from the first end to the second.
    pub fn a_to_b(&self) -> u64 {
        self.a_to_b.load(Ordering::Relaxed)
    }

    /// Bytes from the second end to the first.
    pub fn b_to_a(&self) -> u64 {
        self.b_to_a.load(Ordering::Relaxed)
    }

    pub(crate) fn cells(&self) -> (&AtomicU64, &AtomicU64) {
        (&self.a_to_b, &self.b_to_a)
    }
}
