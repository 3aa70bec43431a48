use super::is_known;

#[test]
fn keys_are_known_whole_or_by_what_they_begin_with() {
    for known in [
        "source.namespace",
        "destination.port",
        "request.headers[x]",
        "request.auth.claims[iss]",
        "experimental.envoy.filters.a",
    ] {
        assert!(is_known(known), "{known}");
    }
    for unknown in [
        "",
        "source",
        "request.headers[NAME",
        "request.headersNAME]",
        "request.headers[]",
        "request.headers",
        "request.auth.claims[]",
        "request.auth.claims",
        "experimental.envoy.filters.",
        "experimental.envoy.filters",
    ] {
        assert!(!is_known(unknown), "{unknown}");
    }
}
