use proptest::prelude::*;

use super::*;

fn info() -> PodInfo {
    PodInfo {
        name: "web-1".into(),
        namespace: "shop".into(),
        service_account: "web".into(),
    }
}

/// The bytes are part of the public protocol: they are written out here by hand.
#[test]
fn bytes_are_those_of_the_protocol() {
    assert_eq!(encode_hello(), [0x08, 1]);
    let add = encode_request(&Request::Add {
        uid: "u".into(),
        info: info(),
    })
    .unwrap();
    assert_eq!(
        add,
        b"\x0a\x17\x0a\x01u\x12\x12\x0a\x05web-1\x12\x04shop\x1a\x03web"
    );
    assert_eq!(
        encode_request(&Request::Keep { uid: "u".into() }).unwrap(),
        [0x2a, 3, 0x0a, 1, b'u']
    );
    assert_eq!(
        encode_request(&Request::Del { uid: "u".into() }).unwrap(),
        [0x12, 3, 0x12, 1, b'u']
    );
    assert_eq!(encode_request(&Request::SnapshotSent).unwrap(), [0x1a, 0]);
    assert_eq!(encode_answer(Ok(())), [0x0a, 0]);
    assert_eq!(encode_answer(Err("no")), [0x0a, 4, 0x0a, 2, b'n', b'o']);
}

#[test]
fn refuses_other_versions_of_the_hello() {
    assert_eq!(decode_hello(&[0x08, 1]), Ok(()));
    assert_eq!(decode_hello(&[]), Err(FrameError::Version { version: 0 }));
    assert_eq!(decode_hello(&[0x08, 2]), Err(FrameError::Version { version: 2 }));
    assert!(matches!(
        decode_hello(&[0x08]),
        Err(FrameError::Undecodable {
            expected: "ZdsHello",
            ..
        })
    ));
}

#[test]
fn says_what_is_missing() {
    assert_eq!(
        decode_request(&[]),
        Err(FrameError::NoPayload {
            message: "WorkloadRequest"
        })
    );
    // A payload of a later version.
    assert_eq!(
        decode_request(&[0x7a, 0]),
        Err(FrameError::NoPayload {
            message: "WorkloadRequest"
        })
    );
    assert_eq!(
        decode_request(&[0x0a, 3, 0x0a, 1, b'u']),
        Err(FrameError::NoInfo { uid: "u".into() })
    );
    assert_eq!(
        decode_request(&[0x0a, 0]),
        Err(FrameError::NoUid {
            message: "AddWorkload"
        })
    );
    assert_eq!(
        decode_request(&[0x12, 0]),
        Err(FrameError::NoUid {
            message: "DelWorkload"
        })
    );
    assert_eq!(
        decode_request(&[0x2a, 0]),
        Err(FrameError::NoUid {
            message: "KeepWorkload"
        })
    );
    assert_eq!(
        decode_answer(&[]),
        Err(FrameError::NoPayload {
            message: "WorkloadResponse"
        })
    );
}

#[test]
fn records_are_bounded_both_ways() {
    let long = Request::Keep {
        uid: "u".repeat(MAX_RECORD),
    };
    assert!(matches!(encode_request(&long), Err(FrameError::TooLong { .. })));
    let edge = Request::Keep {
        uid: "u".repeat(MAX_RECORD - 6),
    };
    assert_eq!(encode_request(&edge).unwrap().len(), MAX_RECORD);
    let mut record = encode_request(&edge).unwrap();
    assert_eq!(decode_request(&record), Ok(edge));
    record.push(0);
    assert_eq!(
        decode_request(&record),
        Err(FrameError::TooLong {
            length: MAX_RECORD + 1
        })
    );
    assert!(!FrameError::TooLong { length: 0 }.is_refusable());
}

#[test]
fn an_error_is_cut_to_fit_and_never_reads_as_success() {
    let record = encode_answer(Err(&"ä".repeat(2000)));
    assert!(record.len() <= MAX_RECORD);
    let error = decode_answer(&record).unwrap().unwrap_err();
    assert!(error.len() > 900 && error.chars().all(|c| c == 'ä'));
    assert!(decode_answer(&encode_answer(Err(""))).unwrap().is_err());
}

fn requests() -> impl Strategy<Value = Request> {
    let uid = || "[a-z0-9-]{1,40}";
    prop_oneof![
        (uid(), "\\PC{0,30}", "\\PC{0,30}", "\\PC{0,30}").prop_map(
            |(uid, name, namespace, service_account)| Request::Add {
                uid,
                info: PodInfo {
                    name,
                    namespace,
                    service_account
                },
            }
        ),
        uid().prop_map(|uid| Request::Keep { uid }),
        uid().prop_map(|uid| Request::Del { uid }),
        Just(Request::SnapshotSent),
    ]
}

proptest! {
    #[test]
    fn requests_survive_the_wire(request in requests()) {
        let record = encode_request(&request).unwrap();
        prop_assert!(record.len() <= MAX_RECORD);
        prop_assert_eq!(decode_request(&record), Ok(request));
    }

    #[test]
    fn answers_survive_the_wire(error in "\\PC{0,200}") {
        let expected = if error.is_empty() { "refused without a reason" } else { &error };
        prop_assert_eq!(decode_answer(&encode_answer(Err(&error))).unwrap(), Err(expected.to_owned()));
    }

    #[test]
    fn garbage_is_an_error_or_a_message(record in proptest::collection::vec(any::<u8>(), 0..1100)) {
        let _ = decode_hello(&record);
        let _ = decode_answer(&record);
        if let Ok(request) = decode_request(&record) {
            prop_assert!(request.uid() != Some(""));
        }
    }
}
