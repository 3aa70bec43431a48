use super::*;
use crate::pods::{PodId, Waiting};
use crate::testing::{Net, Node, TestIssuer, pod, until};

#[tokio::test]
async fn a_pod_says_in_words_what_it_waits_for() {
    let (net, issuer) = (Net::new(), TestIssuer::new());
    let known = vec![pod("known", net.ip(1))];
    let node = Node::new(&issuer, &[], vec![], known, vec![]).await;
    let context = &node.context;
    let ready = |name: &str| named(context, name).unwrap();
    assert_eq!(named(context, "shop/known"), None);

    let id = PodId::from("uid");
    let waiting = Waiting {
        name: "shop/known".into(),
        reason: "port 15008 is taken".into(),
    };
    context.pods.waits(&id, waiting);
    let found = ready("shop/known");
    assert!(!found.ready && !found.listeners);
    assert_eq!(found.waiting_for, ["listeners: port 15008 is taken"]);
    context.observe();
    assert!(
        context
            .metrics
            .encode()
            .contains("workload_manager_pending_proxy_count 1")
    );
    context.pods.waits_no_more(&id);

    let (served, _held) = node.pod("known");
    context.pods.insert(served);
    until("its certificate", || ready("shop/known").ready).await;
    assert_eq!(ready("shop/known").waiting_for, Vec::<String>::new());

    // Nobody has told of this one, and nobody asks for a certificate in its name.
    let (unknown, held) = node.pod("unknown");
    drop(held);
    context.pods.insert(unknown);
    let found = ready("shop/unknown");
    assert!(found.listeners && !found.workload && !found.certificate && !found.ready);
    assert!(found.waiting_for[0].contains("no pod of this name"), "{found:?}");
    assert!(found.waiting_for[1].contains("is not there yet"), "{found:?}");
    let names: Vec<_> = all(context).into_iter().map(|pod| pod.pod).collect();
    assert_eq!(names, ["shop/known", "shop/unknown"]);
}
