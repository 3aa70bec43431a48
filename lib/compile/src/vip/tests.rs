//! Addresses are stable, and never two hosts' at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use objects::{AllocatedAddress, Kind, ObjectKey};
use proptest::prelude::*;

use super::{POOL_V4, POOL_V6};
use crate::testing::{compiled, puts, service};
use crate::{Compiler, Output, Settings};

/// An entry with the addresses that its status lists.
fn entry(name: &str, second: u8, rest: &str, status: &[AllocatedAddress]) -> String {
    let addresses = status.iter();
    let addresses = addresses.map(|one| format!("{{host: {}, value: \"{}\"}}", one.host, one.address));
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: demo, name: {name}, \
         creationTimestamp: \"2026-08-01T00:00:0{second}Z\"}}\nspec: {{{rest}}}\nstatus: {{addresses: [{addresses}]}}\n"
    )
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ServiceEntry, "demo", name)
}

fn at(host: &str, address: &str) -> AllocatedAddress {
    AllocatedAddress {
        host: host.to_owned(),
        address: address.parse().expect("an address"),
    }
}

const DNS: &str = "hosts: [a.example], resolution: DNS";

#[test]
fn every_host_gets_one_address_of_each_family_and_counts_once_it_is_written() {
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(&entry(
        "e",
        0,
        "hosts: [a.example, b.example], resolution: DNS",
        &[],
    )));
    let chosen = &output.allocations[&key("e")];
    let hosts: Vec<&str> = chosen.iter().map(|one| one.host.as_str()).collect();
    assert_eq!(hosts, ["a.example", "a.example", "b.example", "b.example"]);
    for one in chosen {
        match one.address {
            IpAddr::V4(address) => assert_eq!(address.octets()[..2], POOL_V4.octets()[..2]),
            IpAddr::V6(address) => assert_eq!(address.segments()[..3], POOL_V6.segments()[..3]),
        }
    }
    assert!(
        service(&compiler, "demo/a.example").addresses.is_empty(),
        "nobody else knows of it yet"
    );
    let output = compiler.apply(puts(&entry(
        "e",
        0,
        "hosts: [a.example, b.example], resolution: DNS",
        chosen,
    )));
    assert!(output.allocations.is_empty(), "{output:?}");
    let made = service(&compiler, "demo/b.example").addresses.len();
    assert_eq!(made, 2);
    // From nothing, as a program that was started again.
    let again = compiled(&entry(
        "e",
        0,
        "hosts: [a.example, b.example], resolution: DNS",
        chosen,
    ));
    assert_eq!(again.addresses(), compiler.addresses());
}

#[test]
fn who_needs_none_gets_none() {
    let label = |text: String| {
        text.replace(
            "name: e,",
            "name: e, labels: {networking.istio.io/enable-autoallocate-ip: \"false\"},",
        )
    };
    let cases = [
        (
            entry(
                "e",
                0,
                "hosts: [a.example], addresses: [10.8.0.1], resolution: DNS",
                &[],
            ),
            0,
        ),
        (entry("e", 0, "hosts: [a.example]", &[]), 0),
        (
            entry("e", 0, "hosts: [\"*.example\"], resolution: STATIC", &[]),
            0,
        ),
        (
            entry("e", 0, "hosts: [\"*.example\"], resolution: DYNAMIC_DNS", &[]),
            2,
        ),
        (entry("e", 0, "hosts: [a.example], resolution: STATIC", &[]), 2),
        (label(entry("e", 0, DNS, &[])), 0),
    ];
    for (text, expected) in cases {
        let output = Compiler::new(Settings::default()).apply(puts(&text));
        let chosen = output.allocations.get(&key("e")).map_or(0, Vec::len);
        assert_eq!(chosen, expected, "{text}");
    }
    // What it had is taken from its status.
    let text = label(entry("e", 0, DNS, &[at("a.example", "240.240.0.7")]));
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(&text));
    assert_eq!(output.allocations[&key("e")], []);
    assert!(service(&compiler, "demo/a.example").addresses.is_empty());
}

#[test]
fn of_two_with_one_address_the_older_keeps_it() {
    let both = [at("a.example", "240.240.0.7"), at("a.example", "2001:2::7")];
    let other = [at("b.example", "240.240.0.7"), at("b.example", "2001:2::8")];
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(
        &(entry("young", 5, DNS, &both) + &entry("old", 1, "hosts: [b.example], resolution: DNS", &other)),
    ));
    assert!(!output.allocations.contains_key(&key("old")));
    let chosen = &output.allocations[&key("young")];
    assert_eq!(chosen[1], both[1], "what is its own stays");
    assert_ne!(chosen[0].address, both[0].address);
    let of = |host: &str| service(&compiler, &format!("demo/{host}")).addresses.len();
    assert_eq!([of("a.example"), of("b.example")], [1, 2]);
    // An author who writes it down has it before all.
    let given = "hosts: [c.example], addresses: [240.240.0.7], resolution: STATIC";
    let output = compiler.apply(puts(&entry("given", 9, given, &[])));
    assert_ne!(output.allocations[&key("old")][0].address, other[0].address);
}

#[test]
fn what_was_chosen_is_chosen_by_everybody_and_not_twice() {
    let text: String = (0..2000)
        .map(|n| {
            entry(
                &format!("e{n}"),
                0,
                &format!("hosts: [h{n}.example], resolution: DNS"),
                &[],
            )
        })
        .collect();
    let all = |parts: Vec<String>| {
        let mut compiler = Compiler::new(Settings::default());
        let mut found = BTreeMap::new();
        for part in parts {
            found.append(&mut compiler.apply(puts(&part)).allocations);
        }
        found
    };
    let found = all(vec![text.clone()]);
    assert_eq!(found.len(), 2000);
    let addresses: BTreeSet<IpAddr> = found.values().flatten().map(|one| one.address).collect();
    assert_eq!(addresses.len(), 4000);
    assert_eq!(all(vec![text]), found);
}

/// What a store and one or two writers do to entries.
#[derive(Clone, Debug)]
enum Step {
    /// Put an entry with this many hosts, from this one on.
    Put(u8, u8, u8, u8),
    Remove(u8),
    /// Write what was chosen.
    Write,
    /// A second writer, which knows of nothing, writes an address of its own choice.
    Intrude(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, 0u8..5, 0u8..3, 0u8..4).prop_map(|(name, host, more, age)| Step::Put(name, host, more, age)),
        1 => (0u8..6).prop_map(Step::Remove),
        3 => Just(Step::Write),
        1 => (0u8..6, 0u8..3).prop_map(|(name, last)| Step::Intrude(name, last)),
    ]
}

#[derive(Default)]
struct Store {
    /// By name: spec, age and status.
    entries: BTreeMap<u8, (String, u8, Vec<AllocatedAddress>)>,
    compiler: Compiler,
    wanted: BTreeMap<ObjectKey, Vec<AllocatedAddress>>,
}

impl Store {
    fn tell(&mut self, name: u8) {
        let text = self
            .entries
            .get(&name)
            .map(|(spec, age, status)| entry(&format!("e{name}"), *age, spec, status));
        let changes = match text {
            Some(text) => puts(&text),
            None => vec![(key(&format!("e{name}")), None)],
        };
        let output: Output = self.compiler.apply(changes);
        self.wanted.extend(output.allocations);
    }

    fn write(&mut self) -> bool {
        let wanted = std::mem::take(&mut self.wanted);
        let any = !wanted.is_empty();
        for (key, addresses) in wanted {
            let name: u8 = key.name[1..].parse().expect("a number");
            if let Some((_, _, status)) = self.entries.get_mut(&name) {
                *status = addresses;
                self.tell(name);
            }
        }
        any
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The seed of a failure is printed with it.
    #[test]
    fn no_address_is_ever_two_hosts_and_writing_comes_to_rest(steps in prop::collection::vec(step(), 1..25)) {
        let mut store = Store::default();
        for step in steps {
            match step {
                Step::Put(name, host, more, age) => {
                    let hosts: Vec<String> = (host..=host + more).map(|n| format!("h{n}.example")).collect();
                    let spec = format!("hosts: [{}], resolution: DNS", hosts.join(", "));
                    let status = store.entries.get(&name).map(|(_, _, status)| status.clone()).unwrap_or_default();
                    // A creation time never changes.
                    let age = store.entries.get(&name).map_or(age, |(_, age, _)| *age);
                    store.entries.insert(name, (spec, age, status));
                    store.tell(name);
                }
                Step::Remove(name) => {
                    if store.entries.remove(&name).is_some() {
                        store.tell(name);
                    }
                }
                Step::Write => drop(store.write()),
                Step::Intrude(name, last) => if let Some((_, _, status)) = store.entries.get_mut(&name)
                    && let Some(first) = status.first_mut()
                {
                    first.address = IpAddr::from([240, 240, 9, last]);
                    store.tell(name);
                },
            }
            no_two(&store.compiler)?;
        }
        let mut rounds = 0;
        while store.write() {
            rounds += 1;
            prop_assert!(rounds < 20, "it never comes to rest");
        }
        no_two(&store.compiler)?;
        for address in store.compiler.addresses().values() {
            if let Some(proto::workload::address::Type::Service(service)) = &address.r#type {
                prop_assert_eq!(service.addresses.len(), 2, "{}", &service.hostname);
            }
        }
    }
}

fn no_two(compiler: &Compiler) -> Result<(), TestCaseError> {
    let mut seen = BTreeMap::new();
    for (name, address) in compiler.addresses() {
        let Some(proto::workload::address::Type::Service(service)) = &address.r#type else {
            continue;
        };
        for one in &service.addresses {
            let other = seen.insert(one.address.to_vec(), name.clone());
            prop_assert_eq!(other, None, "{} has it too", name);
        }
    }
    Ok(())
}
