use super::*;

#[test]
fn quartiles_are_those_of_the_sorted_values() {
    assert_eq!(quartiles(&[5.0, 1.0, 4.0, 2.0, 3.0]), [2.0, 3.0, 4.0]);
    assert_eq!(quartiles(&[7.0]), [7.0, 7.0, 7.0]);
}

#[test]
fn a_rate_is_units_by_time_and_a_time_is_per_step() {
    let mut rates = Table::of_rates("bulk", 10.0, "MiB/s");
    rates.add("tcp", 4, Duration::from_secs(2));
    assert_eq!(rates.rows, [("tcp".to_owned(), vec![20.0])]);
    let mut times = Table::of_times("ping-pong");
    times.add("tcp", 4, Duration::from_secs(2));
    assert_eq!(times.rows, [("tcp".to_owned(), vec![500_000.0])]);
}
