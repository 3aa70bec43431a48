use super::*;

/// Anonymous memory of this process in RAM, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[cfg(target_env = "gnu")]
fn what_was_freed_between_what_is_in_use_goes_back() {
    const PIECES: usize = 64 << 10;
    let mut pieces: Vec<Option<Vec<u8>>> = (0..PIECES).map(|_| Some(vec![1; 1024])).collect();
    // Some stay, so that the heap's end cannot move.
    for (number, piece) in pieces.iter_mut().enumerate() {
        if number % 64 != 63 {
            piece.take();
        }
    }
    let before = resident();
    assert!(give_back());
    let after = resident();
    // Of 64 MiB.
    assert!(after + (32 << 10) < before, "{before} KiB, then {after} KiB");
    assert_eq!(pieces.iter().flatten().count(), PIECES / 64);
}
