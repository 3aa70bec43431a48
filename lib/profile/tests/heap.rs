//! A profile of the heap of a process that allocates with jemalloc, as the node proxy does: this one.

#![cfg(feature = "heap")]
#![allow(clippy::unwrap_used)]

use flate2::read::GzDecoder;
use profile::messages::Profile;
use profile::{HeapProfileError, heap};
use prost::Message;
use std::hint::black_box;
use std::io::Read;

#[global_allocator]
static ALLOCATOR: sys::heap::Allocator = sys::heap::Allocator;

const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

#[inline(never)]
fn allocates_for_the_test() -> Vec<Vec<u8>> {
    let pieces = (0..PIECES).map(|_| black_box(vec![7; PIECE])).collect();
    // So that collecting is not the last that is done here, for which an optimised build leaves this frame.
    black_box(&pieces);
    pieces
}

#[inline(never)]
fn has_it_allocated() -> Vec<Vec<u8>> {
    let memory = black_box(allocates_for_the_test());
    assert_eq!(memory.len(), PIECES);
    memory
}

fn profile() -> Profile {
    let mut plain = Vec::new();
    GzDecoder::new(heap().unwrap().as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    Profile::decode(plain.as_slice()).unwrap()
}

/// Bytes in use of stacks in which one function calls, over however many others, the other.
fn in_use(profile: &Profile, callee: &str, caller: &str) -> i64 {
    let name = |id: &u64| {
        let location = &profile.location[*id as usize - 1];
        location.line.first().map_or("", |line| {
            let function = &profile.function[line.function_id as usize - 1];
            profile.string_table[function.name as usize].as_str()
        })
    };
    let of_both = profile.sample.iter().filter(|sample| {
        let names: Vec<&str> = sample.location_id.iter().map(name).collect();
        let at = |part: &str| names.iter().position(|name| name.contains(part));
        at(callee)
            .zip(at(caller))
            .is_some_and(|(inner, outer)| inner < outer)
    });
    of_both.map(|sample| sample.value[1]).sum()
}

/// One test: the allocator is the whole process'.
#[test]
fn a_heap_profile_names_who_has_allocated_what_is_in_use() {
    assert!(matches!(heap(), Err(HeapProfileError::Inactive)));
    let before = has_it_allocated();
    sys::heap::sample(true).unwrap();
    assert!(sys::heap::is_sampled().unwrap());
    assert_eq!(
        in_use(&profile(), "allocates_for_the_test", "has_it_allocated"),
        0
    );

    let memory = has_it_allocated();
    let first = profile();
    let kinds: Vec<_> = first
        .sample_type
        .iter()
        .map(|kind| first.string_table[kind.r#type as usize].as_str())
        .collect();
    assert_eq!(kinds, ["inuse_objects", "inuse_space"]);
    assert_eq!(first.period, 512 << 10);
    let found = in_use(&first, "allocates_for_the_test", "has_it_allocated") as f64;
    // About 120 samples: half and twice are more than five standard deviations away.
    let allocated = (PIECE * PIECES) as f64;
    assert!(
        found > allocated / 2.0 && found < allocated * 2.0,
        "{found} of {allocated}"
    );

    drop((memory, before));
    assert_eq!(
        in_use(&profile(), "allocates_for_the_test", "has_it_allocated"),
        0
    );

    // Begun twice is begun, and the end forgets.
    let memory = has_it_allocated();
    sys::heap::sample(true).unwrap();
    assert!(in_use(&profile(), "allocates_for_the_test", "has_it_allocated") > 0);
    sys::heap::sample(false).unwrap();
    assert!(matches!(heap(), Err(HeapProfileError::Inactive)));
    sys::heap::sample(true).unwrap();
    assert_eq!(
        in_use(&profile(), "allocates_for_the_test", "has_it_allocated"),
        0
    );
    sys::heap::sample(false).unwrap();
    drop(memory);
}
