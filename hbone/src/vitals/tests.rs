use super::*;

fn data(length: u32) -> Vec<u8> {
    let bytes = length.to_be_bytes();
    let mut frame = vec![bytes[1], bytes[2], bytes[3], DATA, 0, 0, 0, 0, 1];
    frame.resize(9 + length as usize, 0);
    frame
}

fn update(stream: u8, increment: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 4, WINDOW_UPDATE, 0, 0, 0, 0, stream];
    frame.extend(increment.to_be_bytes());
    frame
}

fn send(vitals: &Vitals, bytes: &[u8]) {
    // As the library writes: the head apart from the payload, and only part of it taken at once.
    let (head, rest) = bytes.split_at(bytes.len().min(9));
    let half = rest.len() / 2;
    vitals.went(&[IoSlice::new(head), IoSlice::new(rest)], head.len() + half);
    vitals.went(&[IoSlice::new(&rest[half..])], rest.len() - half);
}

#[test]
fn data_uses_the_window_up_and_updates_of_the_connection_give_it_back() {
    let vitals = Vitals::of_client();
    vitals.went(&[IoSlice::new(&[1; PREFACE_BYTES])], PREFACE_BYTES);
    send(&vitals, &data(40_000));
    assert!(vitals.blocked_since().is_none());
    send(&vitals, &data(25_535));
    let since = vitals.blocked_since().unwrap();
    vitals.came(&update(1, 1_000_000));
    assert_eq!(
        vitals.blocked_since(),
        Some(since),
        "that was for one stream, and not for the connection"
    );
    vitals.came(&update(0, 20_000));
    assert!(vitals.blocked_since().is_none());
    send(&vitals, &data(10_000));
    assert!(vitals.blocked_since().is_some());
}

#[tokio::test]
async fn whoever_waits_is_woken_by_any_byte() {
    let vitals = Vitals::of_server();
    let before = vitals.heard();
    // The answer may come while the question is being asked.
    vitals.heard_again(|| vitals.came(b"x")).await;
    assert!(vitals.heard() >= before);
    assert_eq!(vitals.waiting.load(Ordering::SeqCst), 0);
}
