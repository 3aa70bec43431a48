//! Choosing an endpoint allocates nothing: told by an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use benches::Endpoints;

/// The system's allocator, counting.
struct Counting;

/// All allocations of this process: there is one test in it.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of the caller's.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` demands, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps what `realloc` demands, and the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Choices of each kind.
const TIMES: u64 = 2_000;

#[test]
fn choosing_an_endpoint_allocates_nothing() {
    for endpoints in [10, 10_000] {
        for (failover, busy) in [(false, false), (true, false), (false, true), (true, true)] {
            let made = Endpoints::new(endpoints, failover, busy);
            assert_allocates_nothing(&made, endpoints, &format!("{failover}, {busy}"));
        }
        assert_allocates_nothing(&Endpoints::affine(endpoints, true), endpoints, "affinity");
    }
}

fn assert_allocates_nothing(made: &Endpoints, endpoints: u32, what: &str) {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > u64::from(endpoints), "the allocator counts");
    let found = made.choose(TIMES);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!((allocations, found), (0, TIMES), "{endpoints} endpoints, {what}");
}
