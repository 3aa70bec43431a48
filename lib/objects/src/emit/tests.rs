use proptest::prelude::*;
use serde_json::{Value, json};

use super::yaml;
use crate::document;

fn read_back(text: &str) -> Value {
    let (documents, errors) = document::read(text);
    assert!(errors.is_empty(), "{errors:?} in\n{text}");
    assert_eq!(documents.len(), 1, "{text}");
    documents[0].to_value()
}

#[test]
fn strings_stay_strings() {
    let strings = [
        "",
        "yes",
        "No",
        "y",
        "on",
        "~",
        "null",
        "true",
        "0123",
        "1e3",
        "0x1f",
        "1.5",
        ".inf",
        "-1",
        "+1",
        "1_000",
        "2026-08-01T12:00:00Z",
        "a: b",
        "a #b",
        "- a",
        "[a]",
        "{a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'a'",
        "\"a\"",
        "a\nb",
        "a\n",
        "\n",
        " a",
        "a ",
        "\t",
        "\\",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}x",
        "ä",
        "😀",
        "---",
        "...",
        "=",
        "<<",
        "a,b",
        "?",
        ":",
        "-",
    ];
    for string in strings {
        let value = json!({"a": string, string: [string, {string: string}], "z": [[string, []], {}]});
        assert_eq!(read_back(&yaml(&value)), value, "{string:?}:\n{}", yaml(&value));
    }
}

#[test]
fn the_text_is_what_people_expect() {
    let value = json!({
        "kind": "Pod", "apiVersion": "v1", "status": {}, "spec": {"containers": [{"name": "web", "args": ["-c", "1"],
        "ports": [{"containerPort": 8080}]}], "x": [[1, 2], []]}, "metadata": {"labels": {"b": "yes"}, "name": "web"},
    });
    let expected = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    b: \"yes\"
spec:
  containers:
  - name: web
    args:
    - \"-c\"
    - \"1\"
    ports:
    - containerPort: 8080
  x:
  -
    - 1
    - 2
  - []
status: {}
";
    assert_eq!(yaml(&value), expected);
}

#[test]
fn long_keys_are_read_back() {
    let value = json!({"k".repeat(2000): {"a": 1}, "b".repeat(2000): ["x"], "c".repeat(2000): 1});
    assert_eq!(read_back(&yaml(&value)), value);
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[-+.0-9a-fxoeE_:~ ]{0,8}",
        "(yes|no|on|off|null|true|0[0-9]{1,4})"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON holds no others", |float| float.is_finite())
            .prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The seed of a failure is printed with it.
    #[test]
    fn every_value_reads_back(value in values()) {
        let wrapped = json!({"v": value});
        prop_assert_eq!(read_back(&yaml(&wrapped)), wrapped);
    }
}
