use super::Limit;

#[test]
fn one_caller_does_not_take_anothers_share() {
    let limit = Limit::default();
    let held: Vec<_> = (0..3).map(|_| limit.admit("a".to_owned(), 3).unwrap()).collect();
    assert!(limit.admit("a".to_owned(), 3).is_none());
    assert!(limit.admit("b".to_owned(), 3).is_some());
    drop(held);
    assert!(limit.admit("a".to_owned(), 3).is_some());
    assert!(
        limit.under_way.lock().unwrap().is_empty(),
        "nothing is remembered of callers that are done"
    );
}
