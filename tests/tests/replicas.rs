//! Several control planes behind one Service: whole proxies and pods go on with another replica when theirs is stopped, or
//! dies without a word. What was refused stays refused at every moment, and what was served is served at every moment.

#![allow(clippy::unwrap_used)]

use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Api, Lab, Place, Pod, echo, echo_once, eventually, require_root, serve_echo};

#[path = "replicas/frozen.rs"]
mod frozen;
#[path = "replicas/support.rs"]
mod support;

use support::*;

#[test]
fn proxies_and_pods_go_on_with_another_replica_and_nobody_is_let_in() {
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
    api.create(POLICIES, &denial("guest"));
    eventually("the guest is denied", SOON, || !is_served(&guest));
    for pod in [&client, &second, &third] {
        eventually("the others are served", SOON, || is_served(pod));
    }
    let mut held = client.connect(to).unwrap();
    echo(&mut held, b"open").unwrap();

    let proxies_of = |replica| metric(&place, replica, "pilot_xds").unwrap_or_default();
    let signed_by = |replica| {
        metric(
            &place,
            replica,
            "citadel_server_success_cert_issuance_count_total",
        )
        .unwrap_or_default()
    };
    let is_written = |account: &str| {
        let policy = api.get(&format!("{POLICIES}/no-{account}")).unwrap();
        policy["status"]["conditions"][0]["type"] == "ZtunnelAccepted"
    };
    let is_enrolled = |pod: &str| {
        let pod = api.get(&format!("{PODS}/{pod}")).unwrap();
        pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled"
    };
    direct(&place, FIRST, &FIRST_RULE);
    let replica = Replica::start(&lab, &place);
    assert_eq!((proxies_of(FIRST), proxies_of(SECOND)), (2.0, 0.0));

    let watch = Watch::new(to, &[&visitor, &guest]);
    thread::scope(|scope| {
        let over = OverWhenGone(&watch);
        let watching = scope.spawn(|| {
            let _over = OverWhenGone(&watch);
            watch.run(&client, held);
        });
        watch.some_rounds();

        // Stopped in good order, as when a Deployment is rolled: it is no endpoint any more, then it is told to end.
        let stopped = first_pid(&lab).unwrap();
        direct(&place, SECOND, &INSTEAD);
        kill(Pid::from_raw(stopped), Signal::SIGTERM).unwrap();
        api.create(PODS, &late_pod("late"));
        api.create(POLICIES, &denial("second"));
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
        assert!(signed_by(SECOND) >= 1.0, "somebody else signed for the new pod");
        eventually("what the leader does is done", SOON, || is_written("second"));
        watch.some_rounds();

        // Another one has taken the place of the first. The second dies, and the Service does not know of it yet.
        eventually("the first is back", SOON, || {
            first_pid(&lab) != Some(stopped) && metric(&place, FIRST, "pilot_xds") == Some(0.0)
        });
        replica.die();
        api.create(POLICIES, &denial("third"));
        api.create(PODS, &late_pod("later"));
        watch.some_rounds();
        assert!(
            is_served(&third),
            "nobody could have told the proxies of the policy"
        );
        assert_eq!(proxies_of(FIRST), 0.0);
        direct(&place, FIRST, &INSTEAD);
        eventually("both proxies are with the first replica", SOON, || {
            proxies_of(FIRST) == 2.0
        });
        eventually("the policy is in force", SOON, || !is_served(&third));
        watch.refuses(&third);
        eventually("the pod is enrolled", SOON, || is_enrolled("later"));
        let later = lab.pod("shop/later");
        eventually("and talks", SOON, || is_served(&later));
        assert!(signed_by(FIRST) >= 1.0, "somebody else signed for the new pod");
        eventually("what the leader does is done", SOON, || is_written("third"));
        assert!(is_served(&late));
        watch.some_rounds();
        drop(over);
        watching.join().unwrap();
    });
}
