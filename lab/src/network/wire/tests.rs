use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn slow(delay: Duration, rate: Option<u64>) -> Wire {
    Wire::new(Slowness { delay, rate })
}

/// Everything on the wire, with the time of arrival.
fn drain(wire: &mut Wire) -> Vec<(Instant, Box<[u8]>)> {
    std::iter::from_fn(|| {
        let at = wire.next_arrival()?;
        let before = at - Duration::from_nanos(1);
        assert_eq!(wire.pop(before), None, "not before its time");
        Some((at, wire.pop(at).unwrap()))
    })
    .collect()
}

#[test]
fn each_frame_is_under_way_for_the_delay() {
    let start = Instant::now();
    let mut wire = slow(20 * MILLISECOND, None);
    assert_eq!(wire.next_arrival(), None);
    assert!(wire.push(start, b"one"));
    assert!(wire.push(start, b"two"));
    assert!(wire.push(start + 5 * MILLISECOND, b"three"));
    let arrived = drain(&mut wire);
    let expected: [(Duration, &[u8]); 3] = [
        (20 * MILLISECOND, b"one"),
        (20 * MILLISECOND, b"two"),
        (25 * MILLISECOND, b"three"),
    ];
    assert_eq!(
        arrived,
        expected.map(|(after, frame)| (start + after, frame.into()))
    );
}

#[test]
fn frames_wait_for_those_before_them_at_a_rate() {
    let start = Instant::now();
    // 1000 bytes a millisecond.
    let mut wire = slow(10 * MILLISECOND, Some(8_000_000));
    for _ in 0..3 {
        assert!(wire.push(start, &[7; 1000]));
    }
    // An idle wire saves nothing up.
    assert!(wire.push(start + 100 * MILLISECOND, &[7; 500]));
    assert!(wire.push(start + 100 * MILLISECOND, &[7; 500]));
    let times: Vec<_> = drain(&mut wire).iter().map(|(at, _)| *at - start).collect();
    let half = Duration::from_micros(500);
    assert_eq!(
        times,
        [
            11 * MILLISECOND,
            12 * MILLISECOND,
            13 * MILLISECOND,
            110 * MILLISECOND + half,
            111 * MILLISECOND
        ]
    );
}

#[test]
fn the_rate_holds_for_long_streams_and_what_does_not_fit_is_lost() {
    let start = Instant::now();
    let mut wire = slow(Duration::ZERO, Some(8_000_000));
    let fits = (0..1000).filter(|_| wire.push(start, &[0; 1000])).count();
    // Those that start at 0, 1, .. 200 ms.
    assert_eq!(fits, 201);
    // Room again, for as much as has left.
    let later = start + 50 * MILLISECOND;
    while wire.pop(later).is_some() {}
    assert_eq!((0..1000).filter(|_| wire.push(later, &[0; 1000])).count(), 50);
    let last = drain(&mut wire).pop().unwrap().0;
    assert_eq!(last - start, 251 * MILLISECOND);
}

#[test]
fn a_frame_that_takes_long_to_send_is_still_sent() {
    let start = Instant::now();
    let mut wire = slow(Duration::ZERO, Some(8_000));
    assert!(wire.push(start, &[0; 1000]));
    assert!(!wire.push(start, &[0; 1000]));
    assert!(wire.push(start + 801 * MILLISECOND, &[0; 1000]));
    let times: Vec<_> = drain(&mut wire).iter().map(|(at, _)| *at - start).collect();
    assert_eq!(times, [Duration::from_secs(1), Duration::from_secs(2)]);
}

#[test]
fn only_so_many_frames_are_under_way() {
    let start = Instant::now();
    let mut wire = slow(Duration::from_secs(10), None);
    for _ in 0..FRAMES_MAX {
        assert!(wire.push(start, b"x"));
    }
    assert!(!wire.push(start, b"x"));
    assert!(wire.pop(start + Duration::from_secs(10)).is_some());
    assert!(wire.push(start + Duration::from_secs(10), b"x"));
}

#[test]
fn nothing_overtakes_when_the_wire_becomes_faster() {
    let start = Instant::now();
    let mut wire = slow(100 * MILLISECOND, Some(8_000));
    assert!(wire.push(start, &[1; 100]));
    wire.set(Slowness {
        delay: MILLISECOND,
        rate: None,
    });
    assert!(wire.push(start, &[2; 100]));
    assert!(wire.push(start + Duration::from_secs(1), &[3; 100]));
    let arrived: Vec<_> = drain(&mut wire)
        .iter()
        .map(|(at, frame)| (*at - start, frame[0]))
        .collect();
    let first = 200 * MILLISECOND;
    assert_eq!(
        arrived,
        [(first, 1), (first, 2), (Duration::from_secs(1) + MILLISECOND, 3)]
    );
}
