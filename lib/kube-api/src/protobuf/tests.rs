use proptest::prelude::*;
use serde_json::json;

use super::read;

/// A length-delimited field.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
    field.extend_from_slice(content);
    field
}

fn body(kind: &str, message: &[u8]) -> Vec<u8> {
    let kind = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes(1, &kind), bytes(2, message)].concat()
}

#[test]
fn a_secret_is_read() {
    let label = bytes(11, &[bytes(1, b"a"), bytes(2, b"b")].concat());
    // Name, an empty namespace, an empty time, a label.
    let metadata = [bytes(1, b"s"), bytes(3, b""), bytes(8, b""), label].concat();
    let data = [bytes(1, b"key"), bytes(2, &[0xff, 0])].concat();
    let message = [
        bytes(1, &metadata),
        bytes(2, &data),
        bytes(3, b"Opaque"),
        vec![5 << 3, 0],
    ]
    .concat();
    assert_eq!(
        read(&body("Secret", &message)).unwrap(),
        json!({
            "kind": "Secret",
            "apiVersion": "v1",
            "metadata": { "name": "s", "labels": { "a": "b" } },
            "data": { "key": "/wA=" },
            "type": "Opaque",
            "immutable": false,
        })
    );
}

#[test]
fn what_is_not_known_is_refused() {
    assert_eq!(read(b"{}").unwrap_err().code, 400);
    assert_eq!(read(&body("Deployment", b"")).unwrap_err().code, 415);
    assert_eq!(read(&body("Secret", &[0x0a, 0x7f])).unwrap_err().code, 400);
}

proptest! {
    #[test]
    fn nothing_breaks_the_reader(kind in "Secret|Service|TokenRequest", message in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&body(&kind, &message));
        let _ = read(&[b"k8s\0", message.as_slice()].concat());
    }
}
