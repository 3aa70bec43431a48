use super::*;

#[test]
fn a_rush_is_over_once_and_each_further_half_is_another() {
    let mut rush = Rush::default();
    let over: Vec<bool> = [0, 5000, 2501, 2500, 2400, 1251, 1250, 2000, 1100, 625, 100, 0]
        .into_iter()
        .map(|open| rush.is_over(open))
        .collect();
    let expected = [
        false, false, false, true, false, false, true, false, false, true, true, false,
    ];
    assert_eq!(over, expected);
}

#[test]
fn the_coming_and_going_of_few_is_none() {
    let mut rush = Rush::default();
    for round in 0..1000 {
        assert!(!rush.is_over(round % RUSH));
    }
}
