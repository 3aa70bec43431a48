//! No objects make the linter fail, and their order changes nothing.

use proptest::prelude::*;

use super::{MESH, cases, input};
use crate::{Code, Input, Settings, lint};

/// Lines of all cases, out of which documents are put together.
fn lines() -> Vec<String> {
    let cases = cases::CASES.iter().flat_map(|case| [case.bad, case.good]);
    cases
        .chain([MESH])
        .flat_map(str::lines)
        .map(str::to_owned)
        .collect()
}

/// Whole documents with single words exchanged.
fn documents() -> impl Strategy<Value = String> {
    let texts: Vec<&'static str> = cases::CASES
        .iter()
        .flat_map(|case| [case.bad, case.good])
        .collect();
    let words: Vec<String> = lines()
        .iter()
        .flat_map(|line| {
            line.split(|letter: char| !letter.is_ascii_alphanumeric() && !"./-*".contains(letter))
        })
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let word = prop_oneof![9 => prop::sample::select(words.clone()), 1 => any::<String>()];
    let exchange = (prop::sample::select(words), word);
    (prop::sample::select(texts), prop::collection::vec(exchange, 0..3)).prop_map(|(text, exchanges)| {
        exchanges
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replacen(from, to, 1))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The seed of a failure is printed with it.
    #[test]
    fn anything_is_judged(documents in prop::collection::vec(documents(), 0..8), mesh: bool) {
        let mut text = documents.join("\n---\n");
        if mesh {
            text = format!("{MESH}---\n{text}");
        }
        let whole = input(&text);
        let found = lint(&whole, &Settings::default());
        prop_assert!(found.iter().all(|finding| !finding.why.is_empty()));
        let mut turned: Input = whole.clone();
        turned.unread.reverse();
        // Of two that are the same object the first counts, so that order matters there.
        if !found.iter().any(|finding| finding.code == Code::DefinedTwice) {
            turned.objects.reverse();
        }
        prop_assert_eq!(lint(&turned, &Settings::default()), found);
    }
}
