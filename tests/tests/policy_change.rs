//! Policies that change while connections pour in: no moment at which both sets would refuse and one is let through. And
//! what a policy says of itself afterwards.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::manifests::{join, namespace, sleeper};
use tests::stamps::{Application, Flood, Held};
use tests::{Lab, Pod, eventually, eventually_some, require_root};

const PORT: u16 = 7001;
const STRICT_PORT: u16 = 7002;
/// For what the control plane writes after it has answered.
const SOON: Duration = Duration::from_secs(10);
/// How often each policy changes there and back.
const TIMES: usize = 12;

fn authorization(name: &str, app: &str, account: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  action: ALLOW\n  rules:\n  - from:\n    - source:\n        \
         principals: [cluster.local/ns/shop/sa/{account}]\n"
    )
}

fn mtls(mode: &str, port_mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: server, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n  mtls: {{mode: {mode}}}\n  portLevelMtls:\n    \
         {STRICT_PORT}: {{mode: {port_mode}}}\n"
    )
}

/// Calls again and again until it is over; answers how often it was served, and what else came of it.
fn call_until(over: &AtomicBool, client: &Pod, server: &Pod, clock: Instant) -> (usize, Vec<String>) {
    let (mut served, mut failed) = (0, Vec::new());
    while !over.load(Ordering::Acquire) {
        match Held::try_open("of who is always allowed", client, server.at(PORT), clock) {
            Ok(_) => served += 1,
            Err(error) => failed.push(format!("{:?}: {error}", clock.elapsed())),
        }
        thread::sleep(Duration::from_millis(2));
    }
    (served, failed)
}

/// Ends the callers, also when something else fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_change_under_a_flood_admits_nobody_whom_both_sets_refuse() {
    if !require_root() {
        return;
    }
    let before = authorization("moving", "server", "client");
    let after = authorization("moving", "other", "intruder");
    let (strict, by_port) = (mtls("STRICT", "UNSET"), mtls("PERMISSIVE", "STRICT"));
    let lab = Lab::up(&join([
        namespace("shop", true),
        namespace("outside", false),
        sleeper("shop", "server", "server", "node-b"),
        sleeper("shop", "other", "other", "node-b"),
        sleeper("shop", "guest", "guest", "node-a"),
        sleeper("shop", "intruder", "intruder", "node-a"),
        sleeper("outside", "outsider", "default", "node-a"),
        // With this one, nobody is let in by default.
        authorization("staying", "server", "guest"),
        before.clone(),
        strict.clone(),
    ]));
    let [server, guest, intruder] =
        ["server", "guest", "intruder"].map(|name| lab.pod(&format!("shop/{name}")));
    let outsider = lab.pod("outside/outsider");
    let clock = Instant::now();
    let application = Application::start(&server, &[PORT, STRICT_PORT]);
    Held::open("before everything", &guest, server.at(PORT), clock);
    let intruders = Flood::start(&[intruder], &[server.at(PORT)], clock);
    let outsiders = Flood::start(&[outsider], &[server.at(STRICT_PORT)], clock);
    let floods = [&intruders, &outsiders];
    let over = AtomicBool::new(false);
    let (served, failed) = thread::scope(|scope| {
        let stop = Over(&over);
        let caller = scope.spawn(|| call_until(&over, &guest, &server, clock));
        for _ in 0..TIMES {
            for manifest in [&after, &by_port, &before, &strict] {
                let tried = floods.map(Flood::tried);
                lab.apply(manifest);
                eventually("the floods go on", SOON, || {
                    floods
                        .iter()
                        .zip(tried)
                        .all(|(flood, tried)| flood.tried() > tried + 3)
                });
            }
        }
        drop(stop);
        caller.join().unwrap()
    });
    for (who, flood) in [("the intruder", &intruders), ("plaintext", &outsiders)] {
        let let_in = flood.served_of_those_begun_after(Duration::ZERO);
        assert_eq!(let_in, 0, "{who} was let in, of {} connections", flood.tried());
    }
    assert!(served > TIMES, "too few to show anything: {served}");
    assert!(
        failed.is_empty(),
        "both sets admit the guest, {served} times: {failed:?}"
    );
    assert!(application.accepted() >= served);
    // The floods are such that they would have been seen.
    lab.apply(&authorization("moving", "server", "intruder"));
    eventually("the intruder is let in once a policy says so", SOON, || {
        intruders.all_have_been_served(1)
    });
    lab.apply(&mtls("PERMISSIVE", "PERMISSIVE"));
    lab.delete(&["authorizationpolicy/staying", "-n", "shop"]);
    lab.delete(&["authorizationpolicy/moving", "-n", "shop"]);
    eventually("plaintext is let in once nothing forbids it", SOON, || {
        outsiders.all_have_been_served(1)
    });
}

#[test]
fn a_policy_says_on_itself_what_becomes_of_it() {
    if !require_root() {
        return;
    }
    let lab = Lab::up(&join([
        namespace("shop", true),
        sleeper("shop", "server", "server", "node-a"),
    ]));
    let policy = |rules: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec:\n  action: ALLOW\n  rules: {rules}\n"
        )
    };
    let condition = |reason: &str| {
        eventually_some("the condition", SOON, || {
            let policies = lab.get(&["authorizationpolicies", "-n", "shop"]);
            let conditions = policies["items"][0]["status"]["conditions"].as_array()?.clone();
            conditions
                .into_iter()
                .find(|condition| condition["type"] == "ZtunnelAccepted" && condition["reason"] == reason)
        })
    };
    lab.apply(&policy("[{to: [{operation: {methods: [GET]}}]}]"));
    let unsupported = condition("UnsupportedValue");
    assert_eq!(unsupported["status"], "True");
    let message = unsupported["message"].as_str().unwrap();
    assert!(
        message.contains("methods") && message.contains("waypoint"),
        "{message}"
    );
    // `apply` waits for proxies while the control plane writes, and the status stays when the object is applied anew.
    lab.apply(&policy("[{to: [{operation: {ports: [\"80\"]}}]}]"));
    let accepted = condition("Accepted");
    assert_eq!(accepted["lastTransitionTime"], unsupported["lastTransitionTime"]);
    lab.apply(&tests::manifests::peer_authentication(
        "shop", "default", "STRICT",
    ));
    eventually("PeerAuthentication has its condition too", SOON, || {
        let policies = lab.get(&["peerauthentications", "-n", "shop"]);
        policies["items"][0]["status"]["conditions"][0]["type"] == "ZtunnelAccepted"
    });
}
