//! docs/lint.md explains every code, with the severity that it has, and no other.

use std::collections::BTreeMap;

use crate::Code;

#[test]
fn every_code_is_explained_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lint.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let mut explained = BTreeMap::new();
    for line in page
        .lines()
        .filter(|line| line.starts_with("| `") && !line.starts_with("| `--"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let code = cells[0].trim_matches(['`', ' ']);
        assert_eq!(cells.len(), 5, "{line}");
        assert!(cells[2..].iter().all(|cell| cell.len() > 3), "{line}");
        assert!(
            explained.insert(code.to_owned(), cells[1].to_owned()).is_none(),
            "{code} twice"
        );
    }
    let codes: BTreeMap<String, String> = Code::ALL
        .iter()
        .map(|code| (code.as_str().to_owned(), code.severity().as_str().to_owned()))
        .collect();
    assert_eq!(explained, codes);
}
