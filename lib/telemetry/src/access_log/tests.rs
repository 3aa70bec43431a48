use super::*;
use crate::log::tests::logged;
use crate::{Format, ResponseFlags};

fn record() -> AccessLog<'static> {
    AccessLog {
        source: AccessEndpoint {
            addr: Some("10.0.1.2:43210".parse().unwrap()),
            workload: Some("client-1"),
            namespace: Some("shop"),
            identity: Some("spiffe://cluster.local/ns/shop/sa/client"),
            cluster: Some("Kubernetes"),
            ..AccessEndpoint::default()
        },
        destination: AccessEndpoint {
            addr: Some("10.0.2.3:15008".parse().unwrap()),
            hbone_addr: Some("10.0.2.3:8080"),
            service: Some("web.shop.svc.cluster.local"),
            workload: Some("web-1"),
            namespace: Some("shop"),
            identity: Some("spiffe://cluster.local/ns/shop/sa/web"),
            cluster: Some("Kubernetes"),
        },
        direction: Direction::Outbound,
        bytes_sent: 11,
        bytes_recv: 12,
        duration: Duration::from_micros(2_500),
        trace_id: Some("00000000000000010000000000000002"),
        dry_run: None,
        not_enforced: None,
        failure: None,
    }
}

#[test]
fn what_policy_only_tried_or_cannot_do_comes_after_the_trace() {
    let tried = AccessLog {
        dry_run: Some("shop/try would deny"),
        not_enforced: Some("paths of rule 0 of shop/http"),
        ..record()
    };
    let end = "dry_run=\"shop/try would deny\" not_enforced=\"paths of rule 0 of shop/http\"";
    let line = logged(Format::Text, "info", || tried.write());
    assert!(line.ends_with(&format!("{end}\n")), "{line}");
    let failed = AccessLog {
        failure: Some(AccessFailure {
            error: "no identity",
            reason: "mtls_required",
            flags: ResponseFlags::Denied,
        }),
        ..tried
    };
    let line = logged(Format::Text, "info", || failed.write());
    assert!(line.contains(&format!("{end} response_flags=")), "{line}");
}

#[test]
fn a_good_connection_is_one_info_line() {
    let text = logged(Format::Text, "info", || record().write());
    let (_, line) = text.split_once('\t').unwrap();
    assert_eq!(
        line,
        "info\taccess\tconnection complete\t\
         src.addr=10.0.1.2:43210 src.workload=\"client-1\" src.namespace=\"shop\" \
         src.identity=\"spiffe://cluster.local/ns/shop/sa/client\" src.cluster=\"Kubernetes\" \
         dst.addr=10.0.2.3:15008 dst.hbone_addr=10.0.2.3:8080 dst.service=\"web.shop.svc.cluster.local\" \
         dst.workload=\"web-1\" dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/web\" \
         dst.cluster=\"Kubernetes\" direction=\"outbound\" bytes_sent=11 bytes_recv=12 duration=\"2ms\" \
         trace_id=\"00000000000000010000000000000002\"\n"
    );
}

#[test]
fn a_failed_connection_is_an_error_line_with_reason() {
    let failed = AccessLog {
        source: AccessEndpoint::default(),
        direction: Direction::Inbound,
        failure: Some(AccessFailure {
            error: "policy shop/strict denies it:\nno identity",
            reason: "policy-denied",
            flags: ResponseFlags::Denied,
        }),
        ..record()
    };
    let text = logged(Format::Json, "info", || failed.write());
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["scope"], "access");
    assert_eq!(line["direction"], "inbound");
    assert_eq!(line["error"], "policy shop/strict denies it:\nno identity");
    assert_eq!(line["reason"], "policy-denied");
    assert_eq!(line["response_flags"], "DENY");
    assert_eq!(line["duration"], "2ms");
    assert_eq!(line["trace_id"], "00000000000000010000000000000002");
    assert_eq!(line["bytes_sent"], 11);
    assert_eq!(line.get("src.addr"), None, "what is not known is left out");
    assert_eq!(line["dst.addr"], "10.0.2.3:15008");
}

#[test]
fn openings_are_for_debugging_and_the_scope_can_be_turned_off() {
    assert_eq!(logged(Format::Text, "info", || record().write_opened()), "");
    let text = logged(Format::Text, "access=debug", || record().write_opened());
    assert!(
        text.contains("debug\taccess\tconnection opened\tsrc.addr="),
        "{text}"
    );
    assert_eq!(logged(Format::Text, "info,access=off", || record().write()), "");
}

/// The names and their order are what existing tools read.
#[test]
fn fields_have_their_order() {
    let failed = AccessLog {
        failure: Some(AccessFailure {
            error: "no",
            reason: "lost",
            flags: ResponseFlags::Connect,
        }),
        ..record()
    };
    let text = logged(Format::Text, "info", || failed.write());
    let fields = text.trim_end().rsplit('\t').next().unwrap();
    let names: Vec<&str> = fields
        .split(' ')
        .filter_map(|field| field.split('=').next())
        .collect();
    let expected = "src.addr src.workload src.namespace src.identity src.cluster dst.addr dst.hbone_addr dst.service \
         dst.workload dst.namespace dst.identity dst.cluster direction bytes_sent bytes_recv duration trace_id \
         response_flags reason error";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
}
