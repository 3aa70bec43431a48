use super::*;

fn names(text: &str) -> Result<Vec<String>, ParseErrors> {
    read_one("things.yaml", text, |root| {
        let mut fields = root.fields()?;
        let names = fields.require("names", "list some").map(|field| field.texts());
        fields.finish();
        names
    })
}

#[test]
fn what_is_asked_for_is_read_and_the_rest_is_named_with_its_line() {
    assert_eq!(names("names: [a, b]").unwrap(), ["a", "b"]);
    let error = names("names: [a]\nname: b\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "things.yaml:2: name: there is no such field; did you mean names?"
    );
}

#[test]
fn wrong_types_missing_fields_and_bad_syntax_are_errors() {
    for (text, wanted) in [
        ("names: 7", "names: is the number 7, but must be a list"),
        ("{}", "names is missing: list some"),
        ("names: [", "this is not YAML"),
        ("names: []\n---\nnames: []", "holds 2 documents"),
        ("", "holds 0 documents"),
    ] {
        let error = names(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}
