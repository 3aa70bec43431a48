use super::*;

#[test]
fn what_people_write() {
    for (text, milliseconds) in [
        ("10s", 10_000),
        ("250ms", 250),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("1h30m", 5_400_000),
        ("7", 7_000),
        ("2d", 172_800_000),
    ] {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_millis(milliseconds)),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_duration() {
    for text in [
        "",
        "s",
        "10x",
        "1.5h",
        "-3s",
        "10 s",
        "99999999999999999999h",
        "18446744073709551615d",
    ] {
        assert_eq!(parse_duration(text), Err(DurationError), "{text:?}");
    }
}
