use proptest::prelude::*;

use super::*;

const HEADER_OF_ONE: [u8; HEADER] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
/// `ab.`, type SRV, class IN.
const QUESTION: &[u8] = b"\x02ab\0\0\x21\0\x01";

fn query() -> Vec<u8> {
    [&HEADER_OF_ONE[..], QUESTION, b"more"].concat()
}

#[test]
fn the_only_question_is_found() {
    let bytes = query();
    let raw = Raw::new(&bytes).unwrap();
    assert_eq!(raw.question(), Some(QUESTION));
    assert_eq!(raw.question_type(), Some(33));
    for cut in HEADER..HEADER + QUESTION.len() {
        assert_eq!(Raw::new(&bytes[..cut]).unwrap().question(), None, "{cut}");
    }
    let mut two = bytes.clone();
    two[5] = 2;
    assert_eq!(Raw::new(&two).unwrap().question(), None);
    let mut pointing = bytes;
    pointing[HEADER] = 0xc0;
    assert_eq!(Raw::new(&pointing).unwrap().question(), None);
}

#[test]
fn an_answer_belongs_to_its_query_alone() {
    let query = query();
    let raw = Raw::new(&query).unwrap();
    let mut answer = query.clone();
    answer[2] |= 0x80;
    // Letters may come back in another case.
    answer[HEADER + 1] = b'A';
    assert!(is_answer(&answer, &query, [0x12, 0x34]));
    assert!(!is_answer(&answer, &query, [0x12, 0x35]));
    assert!(!is_answer(&query, &query, [0x12, 0x34]), "a query");
    answer[2] ^= 0x08;
    assert!(!is_answer(&answer, &query, raw.id()), "another operation");
    answer[2] ^= 0x08;
    answer[HEADER + 2] = b'c';
    assert!(!is_answer(&answer, &query, raw.id()), "another question");
    // What was not understood may come back without its question, but then it is no success.
    answer[5] = 0;
    assert!(!is_answer(&answer, &query, raw.id()));
    answer[3] |= FORMAT_ERROR;
    assert!(is_answer(&answer, &query, raw.id()));
}

proptest! {
    #[test]
    fn garbage_never_panics(
        answer in proptest::collection::vec(any::<u8>(), 0..80),
        query in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        is_answer(&answer, &query, [0, 0]);
        if let Some(raw) = Raw::new(&query) {
            let failure = raw.failure(SERVER_FAILURE);
            prop_assert!(Raw::new(&failure).is_some_and(|failure| failure.is_response()));
            raw.question_type();
        }
    }
}
