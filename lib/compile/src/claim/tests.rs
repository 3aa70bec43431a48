//! Nobody captures what is meant for another namespace by writing down its address.

use std::net::IpAddr;

use objects::{Kind, ObjectKey};
use proto::workload::address::Type;

use crate::testing::{compiled, puts, service};
use crate::{Compiler, Settings};

mod blocks;
mod networks;

fn entry(namespace: &str, name: &str, second: u8, spec: &str, status: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: {namespace}, name: {name}, \
         creationTimestamp: \"2026-08-01T00:00:0{second}Z\"}}\nspec: {{{spec}, ports: [{{number: 80, name: web}}]}}\n\
         status: {{addresses: [{status}]}}\n"
    )
}

/// An entry of the namespace `a-thief` with this address and an endpoint of its own.
fn thief(address: &str, second: u8) -> String {
    let spec = format!(
        "hosts: [thief.example], addresses: [\"{address}\"], resolution: STATIC, endpoints: [{{address: 10.9.9.9}}]"
    );
    entry("a-thief", "thief", second, &spec, "")
}

const VICTIMS: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: victim, name: web}\nspec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: victim, name: web-0, uid: u, labels: {app: web}}\nspec: {serviceAccountName: web, nodeName: node-a, containers: [{name: web}]}\nstatus: {phase: Running, podIP: 10.244.0.7}\n";

/// What node proxies have.
fn snapshot(compiler: &Compiler) -> mesh::Snapshot {
    let mut snapshot = mesh::Snapshot::new();
    for address in compiler.addresses().values() {
        match address.r#type.clone() {
            Some(Type::Service(service)) => {
                let service = mesh::Service::from_proto(service).expect("a good service");
                snapshot.apply([mesh::Change::Service(service)]);
            }
            Some(Type::Workload(workload)) => {
                let workload = mesh::Workload::from_proto(workload).expect("a good workload");
                snapshot.apply([mesh::Change::Workload(workload)]);
            }
            None => {}
        }
    }
    snapshot
}

/// The service that a caller of a namespace means by an address, as node proxies have it. Some look for blocks before they
/// look for workloads.
fn meant(compiler: &Compiler, caller: &str, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().expect("an address");
    let address = mesh::NetworkAddress::new("", address);
    let snapshot = snapshot(compiler);
    let found = snapshot.service_by_address(&address, caller)?;
    Some(found.key().to_string())
}

fn told(compiler: &Compiler, namespace: &str, name: &str) -> Option<String> {
    let key = ObjectKey::new(Kind::ServiceEntry, namespace, name);
    let conditions = compiler.conditions().get(&key)?.iter();
    let mut told = conditions.filter(|condition| condition.kind == "ztunnel.dev/AddressesAccepted");
    told.next().map(|condition| condition.message.clone())
}

#[test]
fn an_address_of_a_service_or_pod_of_another_namespace_stays_theirs() {
    for (address, holder) in [
        ("10.96.0.10", "Service victim/web"),
        ("10.244.0.7", "Pod victim/web-0"),
    ] {
        let text = VICTIMS.to_owned() + &thief(address, 0);
        let compiler = compiled(&text);
        assert!(
            service(&compiler, "a-thief/thief.example").addresses.is_empty(),
            "{address}"
        );
        for caller in ["victim", "other", "a-thief"] {
            let found = meant(&compiler, caller, address);
            assert_ne!(
                found.as_deref(),
                Some("a-thief/thief.example"),
                "{address} from {caller}"
            );
        }
        let message = told(&compiler, "a-thief", "thief").expect("the author is told");
        assert!(message.contains(address) && message.contains(holder), "{message}");
        // Whichever comes first; and once it is nobody else's, it is the entry's.
        let mut later = Compiler::new(Settings::default());
        later.apply(puts(&thief(address, 0)));
        assert_eq!(service(&later, "a-thief/thief.example").addresses.len(), 1);
        later.apply(puts(VICTIMS));
        assert_eq!(later.addresses(), compiler.addresses());
        assert_eq!(later.conditions(), compiler.conditions());
        later.apply(puts(VICTIMS).into_iter().map(|(key, _)| (key, None)));
        assert_eq!(service(&later, "a-thief/thief.example").addresses.len(), 1);
        assert_eq!(told(&later, "a-thief", "thief"), None);
    }
    // In one namespace there is one author.
    let own = thief("10.96.0.10", 0).replace("a-thief", "victim");
    let compiler = compiled(&(VICTIMS.to_owned() + &own));
    assert_eq!(service(&compiler, "victim/thief.example").addresses.len(), 1);
}

#[test]
fn of_an_address_of_two_entries_others_mean_the_older() {
    let given = entry(
        "victim",
        "db",
        1,
        "hosts: [db.example], addresses: [10.8.0.1], resolution: STATIC",
        "",
    );
    let compiler = compiled(&(given.clone() + &thief("10.8.0.1", 2)));
    let key = |caller| meant(&compiler, caller, "10.8.0.1").expect("somebody's");
    assert_eq!(key("other"), "victim/db.example");
    assert_eq!(key("victim"), "victim/db.example");
    assert_eq!(key("a-thief"), "a-thief/thief.example", "its own author may");
    assert!(
        told(&compiler, "a-thief", "thief")
            .expect("told")
            .contains("victim/db")
    );
    assert_eq!(told(&compiler, "victim", "db"), None);
    // What nobody else sees is in nobody's way.
    let private = given.replace("resolution", "exportTo: [\".\"], resolution");
    let compiler = compiled(&(private + &thief("10.8.0.1", 2)));
    assert!(service(&compiler, "a-thief/thief.example").canonical);
}

#[test]
fn an_address_that_was_chosen_is_not_taken_away_by_a_younger_author() {
    let chosen = entry(
        "victim",
        "api",
        1,
        "hosts: [api.example], resolution: DNS",
        "{host: api.example, value: 240.240.0.7}, {host: api.example, value: \"2001:2::7\"}",
    );
    let mut compiler = compiled(&chosen);
    let output = compiler.apply(puts(&thief("240.240.0.7", 2)));
    let victim = ObjectKey::new(Kind::ServiceEntry, "victim", "api");
    assert!(!output.allocations.contains_key(&victim), "{output:?}");
    assert_eq!(service(&compiler, "victim/api.example").addresses.len(), 2);
    let found = meant(&compiler, "other", "240.240.0.7");
    assert_eq!(found.as_deref(), Some("victim/api.example"));
}

#[test]
fn a_status_gives_no_address_that_is_none_to_choose() {
    // Who may write statuses of entries could otherwise take the address of a Service.
    let status = "{host: thief.example, value: 10.96.0.10}, {host: thief.example, value: \"fd00::1\"}";
    let text = entry(
        "a-thief",
        "thief",
        0,
        "hosts: [thief.example], resolution: DNS",
        status,
    );
    let mut compiler = Compiler::new(Settings::default());
    let output = compiler.apply(puts(&text));
    assert!(service(&compiler, "a-thief/thief.example").addresses.is_empty());
    let wanted = &output.allocations[&ObjectKey::new(Kind::ServiceEntry, "a-thief", "thief")];
    assert_eq!(wanted.len(), 2, "it is given others");
}
