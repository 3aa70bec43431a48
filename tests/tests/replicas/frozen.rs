//! A replica that is stopped in the middle of everything, leads and serves, and goes on much later: to others it is as if
//! the network to it were cut, to itself as if no time had passed.

use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{Api, Lab, Place, Pod, echo, echo_once, eventually, require_root, serve_echo};

use super::support::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/ztunnel-control-plane";

/// Stops a process; it goes on with the value's end, so that the lab can end it.
struct Frozen(Pid);

impl Frozen {
    fn new(pid: i32) -> Frozen {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Frozen(Pid::from_raw(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[test]
fn a_replica_that_freezes_is_left_and_comes_back_as_one_that_follows() {
    if !require_root() {
        return;
    }
    let lab = Lab::up_with(&["--control-plane", "kubernetes"], &shop());
    let (api, place) = (Api::of(&lab), lab.control_plane());
    let [server, client, guest, second, third] =
        ["server", "client", "guest", "second", "third"].map(|name| lab.pod(&format!("shop/{name}")));
    let visitor = lab.pod("outside/visitor");
    let to = serve_echo(&server, PORT);
    let is_served = |pod: &Pod| echo_once(pod, to, b"asked").is_ok();
    let proxies_of = |replica| metric(&place, replica, "pilot_xds").unwrap_or_default();
    let leads = |replica| metric(&place, replica, "ztunnel_control_plane_leader");
    let lease = || api.get(LEASE).unwrap()["spec"].clone();
    let condition = |account: &str| -> Value {
        let policy = api.get(&format!("{POLICIES}/no-{account}")).unwrap();
        policy["status"]["conditions"][0]["reason"].clone()
    };
    let is_enrolled = |pod: &str| {
        let pod = api.get(&format!("{PODS}/{pod}")).unwrap();
        pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled"
    };
    api.create(POLICIES, &denial("guest"));
    eventually("the guest is denied", SOON, || !is_served(&guest));
    for pod in [&client, &second, &third] {
        eventually("the others are served", SOON, || is_served(pod));
    }
    let mut held = client.connect(to).unwrap();
    echo(&mut held, b"open").unwrap();
    direct(&place, FIRST, &FIRST_RULE);
    let replica = Replica::start(&lab, &place);
    assert_eq!((proxies_of(FIRST), proxies_of(SECOND)), (2.0, 0.0));
    assert_eq!((leads(FIRST), leads(SECOND)), (Some(1.0), Some(0.0)));
    let of_first = lease();

    let watch = Watch::new(to, &[&visitor, &guest]);
    thread::scope(|scope| {
        let over = OverWhenGone(&watch);
        let watching = scope.spawn(|| {
            let _over = OverWhenGone(&watch);
            watch.run(&client, held);
        });
        watch.some_rounds();

        // It does not answer any more, so it is no endpoint any more; what is open to it stays open and silent.
        let frozen = Frozen::new(first_pid(&lab).unwrap());
        direct(&place, SECOND, &INSTEAD);
        api.create(PODS, &late_pod("late"));
        api.create(POLICIES, &denial("second"));
        eventually("the other replica leads", SOON, || leads(SECOND) == Some(1.0));
        eventually("what the leader does is done", SOON, || {
            condition("second") == "Accepted"
        });
        eventually("both proxies are with the other replica", SOON, || {
            proxies_of(SECOND) == 2.0
        });
        eventually("a policy made meanwhile is in force", SOON, || {
            !is_served(&second)
        });
        watch.refuses(&second);
        eventually("a pod made meanwhile is enrolled", SOON, || is_enrolled("late"));
        let late = lab.pod("shop/late");
        eventually("and talks", SOON, || is_served(&late));
        watch.some_rounds();
        let of_second = lease();
        assert_ne!(of_first["holderIdentity"], of_second["holderIdentity"]);

        // It goes on, and before it knows what time it is, all proxies are sent to it.
        api.create(POLICIES, &denial("third"));
        eventually("that is in force too", SOON, || !is_served(&third));
        watch.refuses(&third);
        direct(&place, FIRST, &INSTEAD);
        drop(frozen);
        replica.die();
        eventually("both proxies are with the first replica", SOON, || {
            proxies_of(FIRST) == 2.0
        });
        watch.some_rounds();
        assert!(is_served(&late));
        // It had lost the lease, and has to wait for the other's end as everybody.
        eventually("the first leads again", SOON, || leads(FIRST) == Some(1.0));
        let again = lease();
        assert_eq!(again["holderIdentity"], of_first["holderIdentity"]);
        // On a slow machine one of them may have lost it for a moment.
        assert!(again["leaseTransitions"].as_i64() >= Some(2), "{again}");
        api.create(POLICIES, &denial("nobody"));
        eventually("what the leader does is done", SOON, || {
            condition("nobody") == "Accepted"
        });
        watch.some_rounds();
        drop(over);
        watching.join().unwrap();
    });
}
