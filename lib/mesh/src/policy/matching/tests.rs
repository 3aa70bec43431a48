//! Clauses, long ones indexed, against a walk over their matches.

use proptest::prelude::*;

use super::*;
use crate::address::IpPrefix;

fn text() -> impl Strategy<Value = StringMatch> {
    // Few letters, so that names often fit.
    (0..4, "[ab]{1,2}").prop_map(|(kind, text)| match kind {
        0 | 1 => StringMatch::Exact(text.into()),
        2 => StringMatch::Prefix(text.into()),
        _ => StringMatch::Suffix(text.into()),
    })
}

fn principal() -> impl Strategy<Value = StringMatch> {
    ("[ab]{1,2}", "[ab]{1,2}")
        .prop_map(|(namespace, name)| StringMatch::Exact(format!("td/ns/{namespace}/sa/{name}").into()))
}

fn account() -> impl Strategy<Value = ServiceAccountMatch> {
    ("[ab]{1,2}", "[ab]{1,2}").prop_map(|(namespace, name)| ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: name.into(),
    })
}

fn blocks() -> impl Strategy<Value = Blocks> {
    let block = (0..16_u8, 28..=32_u32);
    let block = block.prop_map(|(last, length)| IpPrefix::new([10, 0, 0, last].into(), length).unwrap());
    prop::collection::vec(block, 1..10).prop_map(Blocks::from)
}

fn condition() -> impl Strategy<Value = Condition> {
    let one = |strategy| prop::collection::vec(strategy, 1..3);
    let values = prop_oneof![
        3 => one(text().boxed()).prop_map(|list| Values::Namespaces(list.into())),
        3 => one(principal().boxed()).prop_map(|list| Values::Principals(list.into())),
        3 => prop::collection::vec(account(), 1..3).prop_map(|list| Values::ServiceAccounts(list.into())),
        1 => (1..6_u16).prop_map(|port| Values::DestinationPorts(vec![port].into())),
        1 => blocks().prop_map(Values::SourceIps),
        1 => blocks().prop_map(Values::DestinationIps),
    ];
    (prop::bool::weighted(0.15), values).prop_map(|(negated, values)| Condition { negated, values })
}

fn any_match() -> impl Strategy<Value = Match> {
    prop::collection::vec(condition(), 0..3).prop_map(Match::new)
}

/// What the fields of a policy say, without any index.
fn naively(
    matches: &[Match],
    peer: Option<&Identity>,
    [source, destination]: [IpAddr; 2],
    port: u16,
) -> bool {
    let fits = |condition: &Condition| match (&condition.values, peer) {
        (Values::SourceIps(list), _) => list.iter().any(|one| one.contains(source)),
        (Values::DestinationIps(list), _) => list.iter().any(|one| one.contains(destination)),
        (Values::DestinationPorts(list), _) => list.contains(&port),
        (_, None) => false,
        (Values::Namespaces(list), Some(peer)) => list.iter().any(|one| one.matches(peer.namespace())),
        (Values::Principals(list), Some(peer)) => list.iter().any(|one| one.matches(&peer.principal())),
        (Values::ServiceAccounts(list), Some(peer)) => list.iter().any(|one| {
            (&*one.namespace, &*one.service_account) == (peer.namespace(), peer.service_account())
        }),
    };
    let holds = |one: &Match| {
        !one.conditions().is_empty()
            && one
                .conditions()
                .iter()
                .all(|condition| fits(condition) != condition.negated)
    };
    matches.is_empty() || matches.iter().any(holds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_clause_holds_as_its_matches_do(
        matches in prop::collection::vec(any_match(), 0..14),
        peer in prop::option::weighted(0.9, ("[ab]{1,2}", "[ab]{1,2}")),
        port in 1..6_u16,
        ends in [0..16_u8, 0..16_u8],
    ) {
        let peer = peer.map(|(namespace, name)| Identity::new("td", &namespace, &name));
        let ends = ends.map(|last| IpAddr::from([10, 0, 0, last]));
        let attributes = Attributes::new(peer.as_ref(), ends[0], SocketAddr::new(ends[1], port));
        let expected = naively(&matches, peer.as_ref(), ends, port);
        prop_assert_eq!(Clause::new(matches).applies(&attributes), expected);
    }
}

/// Matches of addresses and ports in a long clause hold for callers without identity too, each for its own attribute.
#[test]
fn addresses_and_ports_decide_a_long_clause() {
    let of = |values| {
        Match::new(vec![Condition {
            negated: false,
            values,
        }])
    };
    let host = |last: u8| Blocks::from(vec![IpPrefix::host([10, 0, 0, last].into())]);
    let accepts = |values, source: u8, destination: u8, port: u16| {
        let mut matches: Vec<_> = (1..10)
            .map(|port| of(Values::DestinationPorts(vec![port].into())))
            .collect();
        matches.push(of(values));
        let clause = Clause::new(matches);
        assert!(clause.index.as_ref().is_some_and(|index| index.others.is_empty()));
        let destination = SocketAddr::new([10, 0, 0, destination].into(), port);
        clause.applies(&Attributes::new(None, [10, 0, 0, source].into(), destination))
    };
    assert!(accepts(Values::SourceIps(host(7)), 7, 8, 80));
    assert!(!accepts(Values::SourceIps(host(7)), 8, 7, 80));
    assert!(accepts(Values::DestinationIps(host(7)), 8, 7, 80));
    assert!(!accepts(Values::DestinationIps(host(7)), 7, 8, 80));
    assert!(accepts(Values::DestinationPorts(vec![80].into()), 7, 8, 80));
    assert!(!accepts(Values::DestinationPorts(vec![80].into()), 7, 8, 81));
}

/// One match of each kind decides a long clause alone, and nothing else does.
#[test]
fn each_kind_of_name_decides_a_long_clause() {
    let strings = |text: &str| vec![StringMatch::Exact(text.into())];
    let of = |values| {
        Match::new(vec![Condition {
            negated: false,
            values,
        }])
    };
    let nobody = |at: usize| of(Values::Namespaces(strings(&format!("nobody-{at}")).into()));
    let shop = ServiceAccountMatch {
        namespace: "shop".into(),
        service_account: "web".into(),
    };
    let (web, other) = (
        Identity::new("td", "shop", "web"),
        Identity::new("td", "else", "other"),
    );
    let ip = IpAddr::from([10, 0, 0, 1]);
    let accepts = |clause: &Clause, peer: Option<&Identity>| {
        clause.applies(&Attributes::new(peer, ip, SocketAddr::new(ip, 80)))
    };
    for values in [
        Values::Namespaces(strings("shop").into()),
        Values::Principals(strings("td/ns/shop/sa/web").into()),
        Values::ServiceAccounts(vec![shop].into()),
    ] {
        let mut matches: Vec<_> = (0..10).map(nobody).collect();
        matches.push(of(values));
        let clause = Clause::new(matches);
        assert!(clause.index.is_some());
        assert!(accepts(&clause, Some(&web)), "{clause:?}");
        assert!(!accepts(&clause, Some(&other)), "{clause:?}");
        assert!(!accepts(&clause, None), "{clause:?}");
    }
}
