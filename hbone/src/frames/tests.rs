use proptest::prelude::*;

use super::*;

fn bytes(frame: Frame) -> Vec<u8> {
    let length = frame.length.to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], frame.kind, 0];
    bytes.extend(frame.stream.to_be_bytes());
    if frame.kind == WINDOW_UPDATE && frame.length == 4 {
        bytes.extend(frame.increment.to_be_bytes());
    } else {
        bytes.extend(std::iter::repeat_n(0xff, frame.length as usize));
    }
    bytes
}

fn frame() -> impl Strategy<Value = Frame> {
    let other = (0u8..10, 0u32..40, 0u32..0x7fff_ffff).prop_map(|(kind, length, stream)| Frame {
        kind,
        length,
        stream,
        increment: 0,
    });
    let update = (0u32..9, 0u32..0x7fff_ffff).prop_map(|(stream, increment)| Frame {
        kind: WINDOW_UPDATE,
        length: 4,
        stream,
        increment,
    });
    prop_oneof![other, update].prop_filter("an update of another length has no increment", |frame| {
        frame.kind != WINDOW_UPDATE || frame.length != 4 || frame.stream < 9
    })
}

proptest! {
    #[test]
    fn every_frame_is_found_however_the_bytes_are_cut(
        frames in prop::collection::vec(frame(), 0..20),
        cuts in prop::collection::vec(1usize..30, 1..20),
        preface in prop_oneof![Just(0), Just(PREFACE_BYTES)],
    ) {
        let mut stream = vec![7; preface];
        let mut wanted = Vec::new();
        for mut frame in frames {
            if frame.kind == WINDOW_UPDATE && frame.length != 4 {
                frame.increment = 0;
            }
            stream.extend(bytes(frame));
            wanted.push(frame);
        }
        let mut follower = Frames::after(preface);
        let mut found = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            follower.follow(now, |frame| found.push(frame));
            rest = later;
        }
        prop_assert_eq!(found, wanted);
    }
}
