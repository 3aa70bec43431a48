use super::*;

#[test]
fn a_buffer_comes_back_whole_when_its_chunks_are_gone() {
    let mut buffer = take(SMALL);
    buffer.extend_from_slice(&[7; SMALL]);
    let chunk = buffer.split().freeze();
    let start = chunk.as_ptr();
    give(buffer, SMALL);
    drop(chunk);
    let again = take(SMALL);
    assert!(again.is_empty());
    assert_eq!(again.capacity(), SMALL);
    assert_eq!(again.as_ptr(), start, "the same memory is lent again");
}

#[test]
fn a_buffer_in_use_is_left_alone() {
    let mut buffer = take(SMALL);
    buffer.extend_from_slice(&[7; SMALL]);
    let chunk = buffer.split().freeze();
    give(buffer, SMALL);
    let mut other = take(SMALL);
    other.extend_from_slice(&[9; SMALL]);
    assert!(chunk.iter().all(|byte| *byte == 7));
}

#[test]
fn a_thread_keeps_a_bounded_number() {
    let lent: Vec<_> = (0..LARGE_KEPT + 5).map(|_| take(LARGE)).collect();
    for buffer in lent {
        give(buffer, LARGE);
    }
    POOL.with_borrow(|pool| assert_eq!(pool.large.len(), LARGE_KEPT));
}
