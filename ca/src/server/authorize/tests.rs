use mesh::Identity;

use super::{Denied, Pod, may_impersonate};
use crate::server::authenticate::Caller;

fn caller() -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: "ztunnel-a".to_owned(),
        pod_uid: "uid-a".to_owned(),
        node: "node-a".to_owned(),
    }
}

const PROXY: Pod<'_> = Pod {
    namespace: "istio-system",
    name: "ztunnel-a",
    uid: "uid-a",
    service_account: "ztunnel",
    node: "node-a",
    terminal: false,
};
const HERE: Pod<'_> = Pod {
    namespace: "demo",
    name: "web-1",
    uid: "w1",
    service_account: "web",
    node: "node-a",
    terminal: false,
};

#[test]
fn the_table() {
    let web = Identity::new("cluster.local", "demo", "web");
    let elsewhere = Pod {
        node: "node-b",
        ..HERE
    };
    let pod = || "istio-system/ztunnel-a".to_owned();
    let not_on_node = Err(Denied::NotOnNode {
        identity: web.clone(),
        node: "node-a".to_owned(),
    });
    let table: Vec<(&str, Vec<Pod<'_>>, Result<(), Denied>)> = vec![
        ("on the node", vec![PROXY, HERE], Ok(())),
        ("on the node and elsewhere", vec![elsewhere, HERE, PROXY], Ok(())),
        ("elsewhere only", vec![PROXY, elsewhere], not_on_node.clone()),
        ("nowhere", vec![PROXY], not_on_node.clone()),
        (
            "ended",
            vec![
                PROXY,
                Pod {
                    terminal: true,
                    ..HERE
                },
            ],
            not_on_node.clone(),
        ),
        (
            "not scheduled",
            vec![PROXY, Pod { node: "", ..HERE }],
            not_on_node.clone(),
        ),
        (
            "another account",
            vec![
                PROXY,
                Pod {
                    service_account: "db",
                    ..HERE
                },
            ],
            not_on_node.clone(),
        ),
        (
            "another namespace",
            vec![
                PROXY,
                Pod {
                    namespace: "prod",
                    ..HERE
                },
            ],
            not_on_node,
        ),
        (
            "unknown caller",
            vec![HERE],
            Err(Denied::CallerPodUnknown { pod: pod() }),
        ),
        (
            "the caller's pod was replaced",
            vec![
                Pod {
                    uid: "uid-b",
                    ..PROXY
                },
                HERE,
            ],
            Err(Denied::CallerPodReplaced { pod: pod() }),
        ),
        (
            "the caller's pod has another account",
            vec![
                Pod {
                    service_account: "default",
                    ..PROXY
                },
                HERE,
            ],
            Err(Denied::CallerAccount { pod: pod() }),
        ),
        (
            "the caller's pod is on another node than its token says",
            vec![
                Pod {
                    node: "node-b",
                    ..PROXY
                },
                HERE,
            ],
            Err(Denied::CallerNode { pod: pod() }),
        ),
        (
            "the caller's pod has ended",
            vec![
                Pod {
                    terminal: true,
                    ..PROXY
                },
                HERE,
            ],
            Err(Denied::CallerEnded { pod: pod() }),
        ),
    ];
    for (what, pods, expected) in table {
        assert_eq!(may_impersonate(&caller(), &web, pods), expected, "{what}");
    }
}

#[test]
fn a_token_without_a_node_opens_nothing() {
    let web = Identity::new("cluster.local", "demo", "web");
    let caller = Caller {
        node: String::new(),
        ..caller()
    };
    let pods = [Pod { node: "", ..PROXY }, Pod { node: "", ..HERE }];
    assert!(matches!(
        may_impersonate(&caller, &web, pods),
        Err(Denied::NotOnNode { .. })
    ));
}
