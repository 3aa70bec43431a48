//! What the allocator says of itself. Who it says has allocated is held in the crate `profile`.

use super::*;

#[test]
fn the_settings_are_read_and_no_sample_is_taken_by_itself() {
    assert!(read(c"opt.prof", false).unwrap());
    assert!(!read(c"opt.prof_active", true).unwrap());
    assert_eq!(
        1_usize << read(c"opt.lg_prof_sample", 0_usize).unwrap(),
        SAMPLED_BYTES
    );
    assert_eq!(read(c"opt.dirty_decay_ms", 0_isize).unwrap(), 5000);
}

#[test]
fn what_it_does_not_know_is_an_error_that_names_it() {
    let unknown = read(c"stats.of.nothing", 0_usize).unwrap_err();
    assert!(unknown.to_string().contains("stats.of.nothing"), "{unknown}");
    // A value of another size.
    assert!(read(c"prof.active", 0_u64).is_err());
    assert!(write(c"prof.active", 0_u64).is_err());
}

#[test]
fn it_counts_what_is_allocated() {
    use std::alloc::{GlobalAlloc, Layout};
    const SIZE: usize = 64 << 20;
    let layout = Layout::from_size_align(SIZE, 16).unwrap();
    let before = figures().unwrap();
    // SAFETY: the layout is not empty.
    let memory = unsafe { Allocator.alloc_zeroed(layout) };
    assert!(!memory.is_null());
    let after = figures().unwrap();
    // SAFETY: it was allocated so.
    unsafe { Allocator.dealloc(memory, layout) };
    // The other tests of this process give back a little meanwhile.
    assert!(
        after.allocated > before.allocated + SIZE / 16 * 15,
        "{before:?} {after:?}"
    );
    assert!(after.resident > 0);
    assert!(figures().unwrap().allocated < after.allocated - SIZE / 16 * 15);
}
