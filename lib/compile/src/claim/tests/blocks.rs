//! Blocks, addresses of nodes and load balancers, and endpoints: by none of them is another namespace's traffic drawn.

use proto::workload::NetworkMode;

use super::{entry, meant, snapshot, told};
use crate::testing::{compiled, puts, workload};
use crate::{Compiler, Settings};

const CALLERS: [&str; 3] = ["victim", "other", "a-thief"];

/// An entry with these addresses and an endpoint of its own.
fn redirecting(namespace: &str, name: &str, second: u8, addresses: &str) -> String {
    let spec = format!(
        "hosts: [{name}.example], addresses: [{addresses}], resolution: STATIC, endpoints: [{{address: 10.9.9.9}}]"
    );
    entry(namespace, name, second, &spec, "")
}

/// An entry that leaves connections where they were addressed.
fn passing(namespace: &str, name: &str, second: u8, addresses: &str) -> String {
    let spec = format!("hosts: [{name}.example], addresses: [{addresses}], resolution: NONE");
    entry(namespace, name, second, &spec, "")
}

/// The service that each of the callers is led to by an address.
fn found(compiler: &Compiler, address: &str) -> [Option<String>; 3] {
    CALLERS.map(|caller| meant(compiler, caller, address))
}

fn is_thief(key: &Option<String>) -> bool {
    key.as_ref().is_some_and(|key| key.starts_with("a-thief/"))
}

/// Nobody but its own namespace means the thief, and its author is told.
fn assert_kept(compiler: &Compiler, address: &str, words: &str) {
    let [victim, other, _] = found(compiler, address);
    assert!(
        !is_thief(&victim) && !is_thief(&other),
        "{address}: {victim:?} {other:?}"
    );
    let message = told(compiler, "a-thief", "thief").unwrap_or_else(|| panic!("{address}: untold"));
    assert!(message.contains(words), "{address}: {message}");
}

/// What came in this order is as what comes at once.
fn assert_order_is_no_matter(parts: &[&str]) {
    let whole = compiled(&parts.concat());
    for order in [parts.to_vec(), parts.iter().rev().copied().collect()] {
        let mut compiler = Compiler::new(Settings::default());
        for part in order {
            compiler.apply(puts(part));
        }
        assert_eq!(compiler.addresses(), whole.addresses());
        assert_eq!(compiler.conditions(), whole.conditions());
    }
    for gone in parts {
        let mut compiler = compiled(&parts.concat());
        compiler.apply(puts(gone).into_iter().map(|(key, _)| (key, None)));
        let rest: String = parts.iter().filter(|part| *part != gone).copied().collect();
        let rest = compiled(&rest);
        assert_eq!(compiler.addresses(), rest.addresses());
        assert_eq!(compiler.conditions(), rest.conditions());
    }
}

#[test]
fn nothing_is_taken_out_of_an_older_ones_block() {
    for older in [
        redirecting("victim", "net", 1, "203.0.113.0/24, \"2001:db8::/48\""),
        passing("victim", "net", 1, "203.0.113.0/24, \"2001:db8::/48\""),
    ] {
        for (taken, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("203.0.113.0/25", "203.0.113.7"),
            ("203.0.113.9/24", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("\"2001:db8::7\"", "2001:db8::7"),
            ("\"2001:db8::/49\"", "2001:db8::7"),
        ] {
            for young in [
                redirecting("a-thief", "thief", 2, taken),
                passing("a-thief", "thief", 2, taken),
            ] {
                let compiler = compiled(&(older.clone() + &young));
                assert_kept(&compiler, address, "victim/net");
                let [victim, other, thief] = found(&compiler, address);
                assert_eq!(victim.as_deref(), Some("victim/net.example"));
                assert_eq!(other.as_deref(), Some("victim/net.example"));
                assert!(is_thief(&thief), "its own author may");
                assert_eq!(told(&compiler, "victim", "net"), None);
                assert_order_is_no_matter(&[&older, &young]);
            }
        }
    }
    // What nobody else sees is in nobody's way, and in one namespace there is one author.
    let private = redirecting("victim", "net", 1, "203.0.113.0/24")
        .replace("resolution", "exportTo: [\".\"], resolution");
    for older in [private, redirecting("a-thief", "net", 1, "203.0.113.0/24")] {
        let young = redirecting("a-thief", "thief", 2, "203.0.113.7");
        let compiler = compiled(&(older.clone() + &young));
        assert!(is_thief(&found(&compiler, "203.0.113.7")[1]));
        assert_eq!(told(&compiler, "a-thief", "thief"), None);
    }
}

#[test]
fn a_younger_wider_block_is_what_the_older_leaves_of_it() {
    for older in ["203.0.113.7", "203.0.113.0/28"] {
        let older = redirecting("victim", "net", 1, older);
        let young = redirecting("a-thief", "thief", 2, "203.0.113.0/24");
        let compiler = compiled(&(older.clone() + &young));
        assert_eq!(
            found(&compiler, "203.0.113.7")[1].as_deref(),
            Some("victim/net.example")
        );
        assert!(is_thief(&found(&compiler, "203.0.113.99")[1]));
        assert_eq!(told(&compiler, "a-thief", "thief"), None);
        assert_order_is_no_matter(&[&older, &young]);
    }
}

#[test]
fn nobody_draws_a_large_part_of_the_world() {
    let many: Vec<String> = (11..200).map(|first| format!("{first}.0.0.0/8")).collect();
    let link_local = "169.254.169.254";
    for (addresses, address) in [
        ("0.0.0.0/1, 128.0.0.0/1", "203.0.113.7"),
        ("0.0.0.0/0", "203.0.113.7"),
        ("10.0.0.0/7", "10.1.2.3"),
        ("11.0.0.0/8, 12.0.0.0/32", "11.1.2.3"),
        (many.join(", ").as_str(), "11.1.2.3"),
        ("\"2000::/3\"", "2001:db8::7"),
        ("\"::/0\"", "2001:db8::7"),
        (link_local, link_local),
        ("169.254.169.0/24", link_local),
        ("\"fe80::/64\"", "fe80::1"),
    ] {
        let thief = redirecting("a-thief", "thief", 1, addresses);
        let compiler = compiled(&thief);
        assert_kept(&compiler, address, "--trusted-entry-namespace");
        assert!(is_thief(&found(&compiler, address)[2]), "its own author may");
        // Whoever may speak for the mesh may; and what goes where it was addressed is drawn nowhere.
        let trusted = redirecting("istio-system", "all", 1, addresses);
        assert_eq!(
            found(&compiled(&trusted), address)[1].as_deref(),
            Some("istio-system/all.example")
        );
        let settings = Settings {
            trusted_entry_namespaces: vec!["a-thief".to_owned()],
            ..Settings::default()
        };
        let mut named = Compiler::new(settings);
        named.apply(puts(&thief));
        assert!(is_thief(&found(&named, address)[1]));
        assert_eq!(told(&named, "a-thief", "thief"), None);
        let passing = compiled(&passing("a-thief", "thief", 1, addresses));
        assert!(is_thief(&found(&passing, address)[1]));
        // By a waypoint it is drawn.
        let waypoint = super::entry(
            "a-thief",
            "thief, labels: {istio.io/use-waypoint: w}",
            1,
            &format!("hosts: [thief.example], addresses: [{addresses}], resolution: NONE"),
            "",
        );
        assert_kept(&compiled(&waypoint), address, "--trusted-entry-namespace");
    }
}

/// A node, what runs on its network, and what a load balancer and a Service's author gave a Service.
const PLACES: &str = "---\napiVersion: v1\nkind: Node\nmetadata: {name: node-a}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.5}, {type: Hostname, address: node-a}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: kube-system, name: proxy, uid: u}\nspec: {hostNetwork: true, nodeName: node-b, containers: [{name: a}]}\nstatus: {phase: Running, podIP: 10.0.0.6}\n---\napiVersion: v1\nkind: Service\nmetadata: {namespace: victim, name: web, creationTimestamp: \"2026-08-01T00:00:01Z\"}\nspec: {type: LoadBalancer, clusterIP: 10.0.0.7, externalIPs: [10.0.0.9], ports: [{port: 80}]}\nstatus: {loadBalancer: {ingress: [{ip: 10.0.0.8}, {hostname: lb.example}]}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: victim, name: db, uid: u}\nspec: {nodeName: node-b, containers: [{name: a}]}\nstatus: {phase: Running, podIP: 10.0.0.10}\n";

#[test]
fn nobody_draws_what_goes_to_nodes_pods_and_services_of_others() {
    for (address, holder) in [
        ("10.0.0.5", "Node node-a"),
        ("10.0.0.6", "Pod kube-system/proxy"),
        ("10.0.0.7", "Service victim/web"),
        ("10.0.0.8", "Service victim/web"),
        ("10.0.0.9", "Service victim/web"),
        ("10.0.0.10", "Pod victim/db"),
    ] {
        let thief = redirecting("a-thief", "thief", 2, address);
        assert_kept(&compiled(&(PLACES.to_owned() + &thief)), address, holder);
        assert_order_is_no_matter(&[PLACES, &thief]);
    }
    // Who writes a Service takes no address from an older entry by writing it down.
    let older = redirecting("team", "thief", 0, "10.0.0.9");
    let compiler = compiled(&(PLACES.to_owned() + &older));
    assert_eq!(
        found(&compiler, "10.0.0.9")[1].as_deref(),
        Some("team/thief.example")
    );
    for block in [
        "10.0.0.0/8",
        "10.0.0.0/29",
        "10.0.0.5/31",
        "10.0.0.8/31, 10.0.0.10/31",
    ] {
        let thief = redirecting("a-thief", "thief", 2, block);
        let compiler = compiled(&(PLACES.to_owned() + &thief));
        for address in ["10.0.0.5", "10.0.0.6", "10.0.0.8", "10.0.0.10", "10.1.2.3"] {
            assert_kept(&compiler, address, "of other");
        }
        assert_order_is_no_matter(&[PLACES, &thief]);
    }
}

#[test]
fn the_network_of_a_company_may_be_one_entry() {
    // Where nothing of the mesh lies in it; where it leaves connections where they go; where the namespace speaks for all.
    for (places, text, key) in [
        (
            "",
            redirecting(
                "egress",
                "net",
                1,
                "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 17.0.0.0/8",
            ),
            "egress",
        ),
        (
            "",
            redirecting("egress", "net", 1, "10.0.0.0/8, \"fd00::/8\", \"2001:db8::/32\""),
            "egress",
        ),
        (
            PLACES,
            passing("egress", "net", 1, "10.0.0.0/8, \"fd00::/8\""),
            "egress",
        ),
        (
            PLACES,
            redirecting("istio-system", "net", 1, "10.0.0.0/8"),
            "istio-system",
        ),
    ] {
        let compiler = compiled(&(places.to_owned() + &text));
        assert_eq!(
            found(&compiler, "10.1.2.3")[1],
            Some(format!("{key}/net.example")),
            "{text}"
        );
        assert_eq!(told(&compiler, key, "net"), None, "{text}");
    }
    // Out of a wide one that leaves connections where they go, younger ones may take what is theirs.
    let net = passing("egress", "net", 1, "10.0.0.0/8");
    let db = redirecting("team", "db", 2, "10.8.0.1");
    let compiler = compiled(&(net + &db));
    assert_eq!(
        found(&compiler, "10.8.0.1")[1].as_deref(),
        Some("team/db.example")
    );
    assert_eq!(told(&compiler, "team", "db"), None);
    // Of one that nobody but its own namespace sees, nobody has to keep off.
    let all = redirecting("a-thief", "thief", 1, "0.0.0.0/0");
    let compiler = compiled(&(all + &redirecting("team", "db", 2, "198.51.100.7")));
    assert_eq!(
        found(&compiler, "198.51.100.7")[1].as_deref(),
        Some("team/db.example")
    );
    assert_eq!(told(&compiler, "team", "db"), None);
}

fn machine(namespace: &str, name: &str, second: u8, address: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{namespace: {namespace}, name: {name}, \
         labels: {labels}, creationTimestamp: \"2026-08-01T00:00:0{second}Z\"}}\nspec: {{address: {address}}}\n"
    )
}

#[test]
fn an_endpoint_does_not_stand_for_an_address_of_somebody_else() {
    let net = redirecting("victim", "net", 1, "203.0.113.0/24");
    let vm = machine(
        "victim",
        "vm",
        1,
        "10.6.0.1",
        "{networking.istio.io/tunnel: http}",
    );
    let text = PLACES.to_owned() + &net + &vm;
    for address in [
        "10.0.0.5",
        "10.0.0.6",
        "10.0.0.8",
        "10.0.0.9",
        "203.0.113.7",
        "10.6.0.1",
        "169.254.169.254",
    ] {
        let inline =
            format!("hosts: [thief.example], resolution: STATIC, endpoints: [{{address: {address}}}]");
        for (thief, uid) in [
            (
                machine("a-thief", "thief", 2, address, "{istio.io/use-waypoint: w}"),
                "Kubernetes/networking.istio.io/WorkloadEntry/a-thief/thief".to_owned(),
            ),
            (
                entry(
                    "a-thief",
                    "thief, labels: {istio.io/use-waypoint: w}",
                    2,
                    &inline,
                    "",
                ),
                format!("Kubernetes/networking.istio.io/ServiceEntry/a-thief/thief/{address}"),
            ),
        ] {
            let compiler = compiled(&(text.clone() + &thief));
            let network = mesh::NetworkAddress::new("", address.parse().unwrap());
            let snapshot = snapshot(&compiler);
            let found = snapshot.workload_by_address(&network);
            assert!(
                found.is_none_or(|found| *found.namespace == *"victim"),
                "{found:?}"
            );
            // It is an endpoint of its own services all the same.
            assert_eq!(workload(&compiler, &uid).network_mode(), NetworkMode::HostNetwork);
            // By a tunnel it cannot be both, and it must not be plaintext.
            let tunnel = thief.replace("istio.io/use-waypoint: w", "networking.istio.io/tunnel: http");
            let compiler = compiled(&(text.clone() + &tunnel));
            assert!(!compiler.addresses().contains_key(&uid), "{tunnel}");
            assert!(told_of(&compiler, &tunnel), "{tunnel}");
            assert_order_is_no_matter(&[PLACES, &net, &vm, &thief]);
        }
    }
    // Its own namespace's, and one that nobody has.
    for (namespace, address) in [("victim", "203.0.113.7"), ("a-thief", "10.7.7.7")] {
        let text = text.clone() + &machine(namespace, "own", 2, address, "{}");
        let compiler = compiled(&text);
        let uid = format!("Kubernetes/networking.istio.io/WorkloadEntry/{namespace}/own");
        assert_eq!(
            workload(&compiler, &uid).network_mode(),
            NetworkMode::Standard,
            "{address}"
        );
    }
}

/// Whether the author of the only object of a text is told that an address is not its own.
fn told_of(compiler: &Compiler, text: &str) -> bool {
    let (key, _) = puts(text).remove(0);
    let told = &compiler.conditions()[&key];
    told.iter()
        .any(|condition| condition.kind == "ztunnel.dev/AddressesAccepted" && !condition.status)
}

/// A pod that comes or goes costs itself, however many blocks it lies in and however much of the mesh lies in them.
#[test]
fn a_pod_in_many_blocks_costs_itself() {
    let pod = |number: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: victim, name: p{number}, uid: u}}\nspec: {{containers: \
             [{{name: a}}]}}\nstatus: {{phase: Running, podIP: 10.1.0.{number}}}\n"
        )
    };
    let entries: String = (0..100)
        .map(|number| {
            redirecting(
                "team",
                &format!("e{number}"),
                2,
                &format!("10.0.0.0/8, 10.1.0.0/{}", 9 + number % 10),
            )
        })
        .collect();
    let inside: String = (0..100)
        .map(|number| redirecting("team", &format!("i{number}"), 3, &format!("10.2.0.{number}")))
        .collect();
    let mut compiler = compiled(&(entries + &inside + &pod(1)));
    for change in [true, false] {
        let before = compiler.made();
        let changes = puts(&pod(2)).into_iter();
        compiler.apply(changes.map(|(key, object)| (key, object.filter(|_| change))));
        assert_eq!(compiler.made() - before, 1);
    }
    let before = compiler.made();
    compiler.apply(puts(&pod(1)).into_iter().map(|(key, _)| (key, None)));
    assert!(
        compiler.made() - before > 100,
        "the last one in them gives the blocks back"
    );
}

/// What decides without being an address: a label on a namespace, and when an object was written.
#[test]
fn what_decides_about_others_is_followed() {
    let space = |labels: &str| {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: egress, labels: {labels}}}\n")
    };
    let net = passing("egress", "net", 1, "10.0.0.0/8");
    let db = redirecting("team", "db", 2, "10.8.0.1");
    let mut compiler = compiled(&(net + &db));
    for (labels, expected) in [
        ("{istio.io/use-waypoint: w}", "egress/net.example"),
        ("{}", "team/db.example"),
    ] {
        compiler.apply(puts(&space(labels)));
        let key = found(&compiler, "10.8.0.1")[1].clone();
        assert_eq!(key.as_deref(), Some(expected), "{labels}");
    }
    let service = |second: u8| {
        PLACES.replace(
            "creationTimestamp: \"2026-08-01T00:00:01Z\"",
            &format!("creationTimestamp: \"2026-08-01T00:00:0{second}Z\""),
        )
    };
    let mut compiler = compiled(&(service(1) + &redirecting("team", "db", 2, "10.0.0.9")));
    for (second, is_given) in [(1, false), (3, true), (1, false)] {
        // Deleted and written again.
        compiler.apply(puts(&service(second)));
        assert_eq!(found(&compiler, "10.0.0.9")[1].is_some(), is_given, "{second}");
    }
}

/// An entry that is limited, or is no more, gives up a single address too, and takes it back.
#[test]
fn a_single_address_changes_hands_with_what_limits_the_older() {
    let older = redirecting("a", "older", 1, "203.0.113.7, 10.50.0.0/24");
    let younger = redirecting("b", "younger", 2, "203.0.113.7");
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: c, name: p, uid: u}\nspec: {containers: [{name: a}]}\n\
               status: {phase: Running, podIP: 10.50.0.9}\n";
    let without = older.clone() + &younger;
    let with = without.clone() + pod;
    let mut compiler = compiled(&with);
    for (is_there, text) in [(false, &without), (true, &with), (false, &without)] {
        let changes = puts(pod).into_iter();
        compiler.apply(changes.map(|(key, object)| (key, object.filter(|_| is_there))));
        let fresh = compiled(text);
        let expected = if is_there {
            "b/younger.example"
        } else {
            "a/older.example"
        };
        assert_eq!(found(&fresh, "203.0.113.7")[1].as_deref(), Some(expected));
        assert_eq!(compiler.addresses(), fresh.addresses(), "{is_there}");
        assert_eq!(compiler.conditions(), fresh.conditions(), "{is_there}");
    }
}

/// The same where a label on the namespace limits it.
#[test]
fn a_single_address_changes_hands_with_a_label_on_the_olders_namespace() {
    let space = |labels: &str| {
        format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a, labels: {labels}}}\n")
    };
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: c, name: p, uid: u}\nspec: {containers: [{name: a}]}\n\
               status: {phase: Running, podIP: 10.50.0.9}\n";
    let rest = passing("a", "older", 1, "203.0.113.7, 10.50.0.0/24")
        + &redirecting("b", "younger", 2, "203.0.113.7")
        + pod;
    let mut compiler = compiled(&(space("{}") + &rest));
    for labels in ["{istio.io/use-waypoint: w}", "{}"] {
        compiler.apply(puts(&space(labels)));
        let fresh = compiled(&(space(labels) + &rest));
        assert_eq!(compiler.addresses(), fresh.addresses(), "{labels}");
        assert_eq!(compiler.conditions(), fresh.conditions(), "{labels}");
    }
}
