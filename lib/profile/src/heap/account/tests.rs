use super::*;

const TEXT: &str = "\
heap_v2/524288
  t*: 5: 2621472 [0: 0]
  t7: 5: 2621472 [0: 0]
@ 0x1001 0x2001 0x3001
  t*: 3: 2097152 [0: 0]
  t7: 3: 2097152 [0: 0]
@ 0x4001
  t*: 2: 524320 [0: 0]
  t7: 2: 524320 [0: 0]

MAPPED_LIBRARIES:
@ this is no stack
";

#[test]
fn stacks_are_read_with_what_is_in_use_of_them() {
    let account = Account::read(TEXT.as_bytes()).unwrap();
    assert_eq!((account.period, account.left_out), (524_288, 0));
    let stacks: Vec<_> = account
        .stacks()
        .map(|(frames, used)| (frames.to_vec(), *used))
        .collect();
    let used = |objects, bytes| Used { objects, bytes };
    assert_eq!(
        stacks,
        [
            (vec![0x1000, 0x2000, 0x3000], used(3, 2_097_152)),
            (vec![0x4000], used(2, 524_320)),
        ]
    );
}

#[test]
fn nothing_in_use_is_no_error_and_something_else_names_the_line() {
    let empty = Account::read(b"heap_v2/524288\n  t*: 0: 0 [0: 0]\n\nMAPPED_LIBRARIES:\n").unwrap();
    assert_eq!(empty.stacks().count(), 0);
    for (text, line) in [
        ("", 1),
        ("heap_v1/5\n", 1),
        ("heap_v2/5\n@ 0x1 55\n", 2),
        ("heap_v2/5\n@ 0xg\n", 2),
        ("heap_v2/5\n@ 0x1\n  t*: x: 1 [0: 0]\n", 3),
        ("heap_v2/5\n@ 0x1\n  t*: 1\n", 3),
    ] {
        let error = Account::read(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
    assert!(Account::read(b"\xff\xfe").is_err());
    let long = Account::read(&[b'x'; 1000]).unwrap_err();
    assert_eq!(long.text.len(), 80);
}

#[test]
fn more_stacks_than_are_told_apart_are_counted() {
    let mut text = String::from("heap_v2/1\n");
    for number in 0..MAX_STACKS + 3 {
        text += &format!("@ {number:#x}\n  t*: 1: 1 [0: 0]\n");
    }
    let account = Account::read(text.as_bytes()).unwrap();
    assert_eq!((account.stacks().count(), account.left_out), (MAX_STACKS, 3));
}

#[test]
fn small_objects_stand_for_more_than_large_ones() {
    let estimated = |objects, bytes| Used { objects, bytes }.estimated(524_288);
    // 1 − e^(−1) of the objects of that size are sampled: 0.632.
    assert_eq!(estimated(632, 632 * 524_288).0, 1000);
    // Nearly every one.
    assert_eq!(estimated(1, 64 << 20), (1, 64 << 20));
    // Nearly one in 32 768.
    let (objects, bytes) = estimated(1, 16);
    assert_eq!(objects, 32_769);
    assert!((524_288..524_310).contains(&bytes), "{bytes}");
    assert_eq!(estimated(0, 0), (0, 0));
}
