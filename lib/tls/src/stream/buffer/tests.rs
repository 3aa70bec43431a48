use super::{Buffer, LARGE, SMALL};

#[test]
fn bytes_survive_every_move() {
    let mut buffer = Buffer::default();
    assert_eq!(buffer.held(), 0);
    let bytes: Vec<u8> = (0..SMALL).map(|at| at as u8).collect();
    buffer.extend(&bytes);
    assert_eq!(buffer.held(), SMALL);
    buffer.consume(SMALL - 100);
    // Room is made by moving to the front before more memory is taken.
    buffer.reserve(SMALL - 100);
    assert_eq!(buffer.held(), SMALL);
    assert_eq!(buffer.filled(), &bytes[SMALL - 100..]);
    buffer.reserve(SMALL);
    assert_eq!(buffer.held(), LARGE);
    assert_eq!(buffer.filled(), &bytes[SMALL - 100..]);
    buffer.shrink();
    assert_eq!(buffer.held(), SMALL);
    assert_eq!(buffer.filled(), &bytes[SMALL - 100..]);
    buffer.consume(100);
    buffer.shrink();
    assert_eq!(buffer.held(), 0);
}

#[test]
fn a_full_large_buffer_is_not_shrunk() {
    let mut buffer = Buffer::default();
    buffer.extend(&vec![1; SMALL + 1]);
    assert_eq!(buffer.held(), LARGE);
    buffer.shrink();
    assert_eq!(buffer.held(), LARGE);
    assert_eq!(buffer.len(), SMALL + 1);
}

#[test]
fn more_than_a_large_buffer_is_possible_and_not_kept() {
    let mut buffer = Buffer::default();
    buffer.extend(&vec![3; LARGE + 5]);
    assert_eq!(buffer.filled(), &vec![3; LARGE + 5][..]);
    drop(buffer);
    let mut next = Buffer::default();
    next.reserve(LARGE);
    assert_eq!(next.held(), LARGE);
}

#[test]
fn free_memory_is_used_again() {
    let mut buffer = Buffer::default();
    buffer.extend(b"marked");
    let at = buffer.filled().as_ptr();
    drop(buffer);
    let mut next = Buffer::default();
    next.reserve(1);
    assert_eq!(next.spare_mut().as_ptr(), at);
    assert!(next.is_empty(), "what an earlier holder wrote is not content");
}
