use proptest::prelude::*;

use super::*;

fn any_match() -> impl Strategy<Value = StringMatch> {
    // Few letters, so that texts begin and end with each other; one of two bytes, so that bytes are no letters.
    (0..4, "[abé]{0,4}").prop_map(|(kind, text)| match kind {
        0 => StringMatch::Exact(text.into()),
        1 => StringMatch::Prefix(text.into()),
        2 => StringMatch::Suffix(text.into()),
        _ => StringMatch::Presence,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn strings_match_as_the_list_does(
        list in prop::collection::vec(any_match(), 0..20),
        value in "[abé]{0,5}",
        skip_presence in any::<bool>(),
    ) {
        let list: Vec<_> = list
            .into_iter()
            .filter(|one| !skip_presence || *one != StringMatch::Presence)
            .collect();
        let expected = list.iter().any(|one| one.matches(&value));
        prop_assert_eq!(StringIndex::new(&list).matches(&value), expected);
    }

    #[test]
    fn accounts_match_as_the_list_does(
        list in prop::collection::vec(("[ab]{1,2}", "[ab]{1,2}"), 0..20),
        namespace in "[ab]{1,2}",
        name in "[ab]{1,2}",
    ) {
        let account = |(namespace, name): &(String, String)| ServiceAccountMatch {
            namespace: namespace.as_str().into(),
            service_account: name.as_str().into(),
        };
        let list: Vec<_> = list.iter().map(account).collect();
        let identity = Identity::new("td", &namespace, &name);
        let expected = list.iter().any(|one| one.matches(&identity));
        prop_assert_eq!(AccountIndex::new(&list).matches(&identity), expected);
    }
}

#[test]
fn covered_texts_are_left_out() {
    let prefix = |text: &str| StringMatch::Prefix(text.into());
    let suffix = |text: &str| StringMatch::Suffix(text.into());
    let list = ["b", "ab", "a", "abc", "b"];
    let index = StringIndex::new(&list.map(prefix));
    assert_eq!(
        index.prefixes.iter().map(|text| &**text).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let index = StringIndex::new(&list.map(suffix));
    assert_eq!(
        index.suffixes.iter().map(|text| &**text).collect::<Vec<_>>(),
        ["a", "b", "abc"]
    );
}
