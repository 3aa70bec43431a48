//! The CA's root is exchanged under traffic: no connection fails or ends, and at the end the old root proves nothing.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::manifests::{join, namespace, sleeper};
use tests::{
    Claims, HBONE_PORT, HboneClient, Lab, Output, Place, Pod, Signer, echo, echo_once, eventually_some,
    require_root, serve_echo, ztctl,
};

/// The life of certificates, so short that a rotation does not take long, and so long that no test machine is late.
const LIFE: &str = "45s";
/// Longer than every phase: a certificate's life, and what is waited besides.
const SOON: Duration = Duration::from_secs(180);
const PORT: u16 = 7000;
const SERVER: &str = "spiffe://cluster.local/ns/mesh/sa/two";

/// What became of the connections of one caller.
#[derive(Debug, Default)]
struct Calls {
    served: usize,
    failed: BTreeMap<String, usize>,
}

#[test]
fn no_connection_fails_while_the_root_is_exchanged_and_then_the_old_one_proves_nothing() {
    if !require_root() {
        return;
    }
    let lab = Lab::reserve();
    let life = |node: &str| format!("{node}=SECRET_TTL={LIFE}");
    let output = lab.try_up(
        &[
            "--node-proxy-env",
            &life("node-a"),
            "--node-proxy-env",
            &life("node-b"),
        ],
        &join([
            namespace("mesh", true),
            sleeper("mesh", "one", "one", "node-a"),
            sleeper("mesh", "two", "two", "node-b"),
            sleeper("mesh", "plain", "plain", "node-a"),
        ]),
    );
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let (one, two) = (lab.pod("mesh/one"), lab.pod("mesh/two"));
    let (to_one, to_two) = (serve_echo(&one, PORT), serve_echo(&two, PORT));
    let before = status(&lab);
    assert_eq!(before["phase"], "steady", "{before}");
    assert_eq!(before["roots"].as_array().unwrap().len(), 1);
    let old = Signer::of_lab(&lab);
    let caller = lab.node("node-a");
    let claims = Claims::of("mesh", "one");
    let tunnel =
        |signer: &Signer| HboneClient::open(&caller, two.at(HBONE_PORT), Some(&signer.sign(&claims)), SERVER);
    tunnel(&old).expect("the old root is believed");

    let over = AtomicBool::new(false);
    let calls: Vec<Calls> = thread::scope(|scope| {
        let stop = Over(&over);
        let mut callers = Vec::new();
        for (from, to) in [(&one, to_two), (&two, to_one)] {
            let over = &over;
            callers.push(scope.spawn(move || call(over, from, to)));
            callers.push(scope.spawn(move || hold(over, from, to)));
        }

        ca(&lab, &["rotate"]).expect_code(0);
        let introduced = reach(&lab, "introduced");
        let again = ca(&lab, &["rotate"]);
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.stderr.contains("under way"), "{again:?}");
        assert_eq!(introduced["roots"].as_array().unwrap().len(), 2, "{introduced}");

        let switched = reach(&lab, "switched");
        let new = Signer::of_lab(&lab);
        for signer in [&old, &new] {
            tunnel(signer).expect("both roots are believed");
        }
        // Another process goes on where this one was.
        lab.restart("control-plane", true);
        let resumed = eventually_some("it answers again", SOON, || {
            let output = ca(&lab, &["status", "-o", "json"]);
            (output.code == 0).then(|| serde_json::from_str::<Value>(&output.stdout).unwrap())
        });
        assert_eq!(resumed["generation"], switched["generation"], "{resumed}");
        let abort = ca(&lab, &["rotate", "--abort"]);
        assert_eq!(abort.code, 1, "{abort:?}");
        let table = ca(&lab, &["status"]).expect_code(0).stdout;
        assert!(
            table.contains("switched since") && table.contains("WAITS FOR"),
            "{table}"
        );

        let steady = reach(&lab, "steady");
        let fingerprint = |status: &Value| status["roots"][0]["fingerprint"].clone();
        assert_ne!(fingerprint(&steady), fingerprint(&before));
        assert_eq!(fingerprint(&steady), fingerprint(&switched));

        eventually_some("the old root is believed no longer", SOON, || tunnel(&old).err());
        tunnel(&new).expect("the new root is believed");
        for (from, to) in [(&one, to_two), (&two, to_one)] {
            echo_once(from, to, b"and after").unwrap();
        }
        drop(stop);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    println!("{calls:?}");
    for calls in &calls {
        assert!(calls.failed.is_empty(), "{calls:?}");
        assert!(calls.served > 20, "too few to show anything: {calls:?}");
    }
    let log = lab.logs("ztunnel/node-b");
    assert!(log.contains("untrusted_issuer"), "the refusal has its reason");
}

#[test]
fn a_rotation_is_given_up_before_the_new_root_signs_and_waits_for_a_node_that_is_cut_off() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("mesh", true),
        sleeper("mesh", "one", "one", "node-a"),
        sleeper("mesh", "two", "two", "node-b"),
    ]));
    let (one, two) = (lab.pod("mesh/one"), lab.pod("mesh/two"));
    let to_two = serve_echo(&two, PORT);
    echo_once(&one, to_two, b"before").unwrap();
    let nothing = ca(&lab, &["rotate", "--abort"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");

    lab.ztctl(&["fault", "node-b", "--partition"]).expect_code(0);
    let late = ca(&lab, &["rotate", "--wait", "20s"]);
    assert_eq!(late.code, 3, "{late:?}");
    assert!(
        late.stderr.contains("node-b (istio-system/ztunnel-node-b)"),
        "{late:?}"
    );
    assert!(!late.stderr.contains("ztunnel-node-a"), "{late:?}");
    let waiting = status(&lab);
    assert_eq!(waiting["phase"], "introduced");
    assert_eq!(waiting["blockers"][0]["code"], "not_acknowledged", "{waiting}");

    ca(&lab, &["rotate", "--abort", "--wait", "20s"]).expect_code(0);
    let given_up = status(&lab);
    assert_eq!(given_up["roots"].as_array().unwrap().len(), 1, "{given_up}");
    lab.ztctl(&["fault", "node-b", "--clear"]).expect_code(0);
    eventually_some("it is reached again", SOON, || {
        echo_once(&one, to_two, b"after").ok()
    });

    let wrong = ca(&lab, &["status", "-o", "nonsense"]);
    assert_eq!(wrong.code, 2);
    let nowhere = ztctl(&["ca", "status", "--debug-socket", "/nowhere"], SOON);
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
}

/// `ztctl ca ARGS` about this lab.
fn ca(lab: &Lab, args: &[&str]) -> Output {
    let (subcommand, rest) = args.split_first().unwrap();
    let mut all = vec!["ca", subcommand, "--name", lab.name()];
    all.extend(rest);
    ztctl(&all, SOON)
}

fn status(lab: &Lab) -> Value {
    let output = ca(lab, &["status", "-o", "json"]).expect_code(0);
    serde_json::from_str(&output.stdout).unwrap()
}

/// Waits for a phase.
#[track_caller]
fn reach(lab: &Lab, phase: &str) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually_some(phase, SOON, || {
            last = status(lab);
            (last["phase"] == phase).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("not {phase}, but {last:#}"))
}

/// Ends the callers, also when something else fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Opens one connection after the other.
fn call(over: &AtomicBool, from: &Pod, to: SocketAddr) -> Calls {
    repeat(over, || echo_once(from, to, b"hello"))
}

/// Keeps one connection, and says something on it now and then.
fn hold(over: &AtomicBool, from: &Pod, to: SocketAddr) -> Calls {
    let mut stream: TcpStream = from.connect(to).unwrap();
    repeat(over, || echo(&mut stream, b"still here"))
}

fn repeat(over: &AtomicBool, mut what: impl FnMut() -> std::io::Result<()>) -> Calls {
    let mut calls = Calls::default();
    while !over.load(Ordering::SeqCst) {
        match what() {
            Ok(()) => calls.served += 1,
            Err(error) => {
                let kind = format!("{:?}: {error}", error.kind());
                *calls.failed.entry(kind).or_default() += 1;
            }
        }
        // Load that leaves the machine to others.
        thread::sleep(Duration::from_millis(50));
    }
    calls
}
