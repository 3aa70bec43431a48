use super::{Data, MAX_DEPTH, MAX_DOCUMENTS, MAX_TEXT_BYTES, read};

fn only_error(text: &str) -> (usize, String) {
    let (_, errors) = read(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    (errors[0].line, errors[0].problem.clone())
}

#[test]
fn documents_keep_their_lines() {
    let (documents, errors) = read("# nothing\n---\na: 1\n---\n---\n\nb:\n- c\n-   d: e\n");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].get("a").map(|tree| tree.line), Some(3));
    let list = documents[1].get("b").expect("b");
    let Data::Sequence(items) = &list.data else {
        panic!("{list:?}")
    };
    assert_eq!(
        (items[0].line, items[1].get("d").map(|tree| tree.line)),
        (8, Some(9))
    );
}

#[test]
fn json_is_read_like_yaml() {
    let (documents, errors) = read("{\"a\": [1, true, null, \"x\\u0041\\n\"]}");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        documents[0].to_value(),
        serde_json::json!({"a": [1, true, null, "xA\n"]})
    );
}

#[test]
fn broken_text_is_named_with_its_line() {
    let (line, problem) = only_error("a: 1\nb: [1, 2\n");
    assert!(line >= 2, "{line}");
    assert!(problem.starts_with("this is not YAML"), "{problem}");
}

#[test]
fn a_key_given_twice_names_both_lines() {
    assert_eq!(
        only_error("a: 1\nb: 2\na: 3\n"),
        (3, "the key \"a\" is given twice, first on line 1".to_owned())
    );
}

#[test]
fn depth_is_bounded_without_recursion() {
    let deep = "[".repeat(100_000);
    let (_, problem) = only_error(&deep);
    assert!(
        problem.contains("nested deeper") || problem.contains("recursion"),
        "{problem}"
    );
    let block: String = (0..MAX_DEPTH + 1)
        .map(|depth| format!("{}k:\n", " ".repeat(depth)))
        .collect();
    assert_eq!(
        only_error(&(block + &" ".repeat(MAX_DEPTH + 1) + "x: 1")).1,
        "nested deeper than 64 levels"
    );
}

#[test]
fn aliases_are_expanded_within_bounds() {
    let (documents, errors) = read("a: &x {b: 1}\nc: *x\n");
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        documents[0].to_value(),
        serde_json::json!({"a": {"b": 1}, "c": {"b": 1}})
    );

    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(","));
    }
    assert!(only_error(&bomb).1.contains("more than 1000000 values"));
    // What is kept for aliases that never come.
    let levels = MAX_DEPTH - 4;
    let opened: String = (0..levels).map(|level| format!("&b{level} [")).collect();
    let nested = format!("{opened}{}{}", "1,".repeat(100_000), "]".repeat(levels));
    assert!(only_error(&nested).1.contains("more than 1000000 values"));
    assert!(!read("a: &x [*x]\n").1.is_empty());
}

#[test]
fn size_and_number_of_documents_are_bounded() {
    assert!(
        only_error(&" ".repeat(MAX_TEXT_BYTES + 1))
            .1
            .contains("at most 4194304 are read")
    );
    assert!(
        only_error(&"--- a\n".repeat(MAX_DOCUMENTS + 1))
            .1
            .contains("more than 10000 documents")
    );
}

#[test]
fn merge_keys_and_foreign_tags_are_refused() {
    assert!(
        only_error("a: &x {b: 1}\nc:\n  <<: *x\n")
            .1
            .contains("merge keys")
    );
    assert!(only_error("a: !thing 3\n").1.contains("is not understood"));
}
