use super::{Scalar, resolve};

#[test]
fn scalars_mean_what_kubernetes_reads() {
    let cases = [
        ("", Scalar::Null),
        ("~", Scalar::Null),
        ("null", Scalar::Null),
        ("yes", Scalar::Boolean(true)),
        ("Off", Scalar::Boolean(false)),
        ("n", Scalar::Boolean(false)),
        ("8080", Scalar::Integer(8080)),
        ("-1", Scalar::Integer(-1)),
        ("+7", Scalar::Integer(7)),
        ("0123", Scalar::Integer(83)),
        ("0o17", Scalar::Integer(15)),
        ("0x1F", Scalar::Integer(31)),
        ("0b101", Scalar::Integer(5)),
        ("1_000", Scalar::Integer(1000)),
        ("0", Scalar::Integer(0)),
        ("18446744073709551615", Scalar::Integer(i128::from(u64::MAX))),
        (
            "18446744073709551616",
            Scalar::Float(18_446_744_073_709_551_616.0),
        ),
        ("0899", Scalar::Float(899.0)),
        ("1e3", Scalar::Float(1000.0)),
        ("1.5", Scalar::Float(1.5)),
        (".5", Scalar::Float(0.5)),
        ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
        ("1.2.3", Scalar::Text),
        ("--1", Scalar::Text),
        ("-+1", Scalar::Text),
        ("10.0.0.1", Scalar::Text),
        ("inf", Scalar::Text),
        ("e3", Scalar::Text),
        ("1h", Scalar::Text),
        ("true ", Scalar::Text),
        ("web", Scalar::Text),
        ("-", Scalar::Text),
        ("0x", Scalar::Text),
    ];
    for (text, expected) in cases {
        assert_eq!(resolve(text), expected, "{text:?}");
    }
}
