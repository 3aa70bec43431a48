//! Who may ask for whom, over pods that come and go.

use serde_json::json;

use super::*;

fn pod(name: &str, uid: &str, account: &str, node: &str, phase: &str) -> StoreChange {
    let object = Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "demo", "uid": uid },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c", "image": "x" }] },
        "status": { "phase": phase },
    }));
    StoreChange::Put(Arc::new(object.unwrap()))
}

fn ask(pods: &Pods, account: &str) -> Result<(), &'static str> {
    let caller = Caller {
        namespace: "demo".to_owned(),
        service_account: "proxy".to_owned(),
        pod_name: "proxy-1".to_owned(),
        pod_uid: "uid-p".to_owned(),
        node: "node-a".to_owned(),
    };
    let identity = Identity::new("cluster.local", "demo", account);
    pods.may_impersonate(&caller, &identity)
        .map_err(|denied| denied.code())
}

#[test]
fn identities_follow_the_pods() {
    let pods = Pods::default();
    let proxy = |uid: &str, node: &str| pod("proxy-1", uid, "proxy", node, "Running");
    assert_eq!(ask(&pods, "web"), Err("caller_pod_unknown"));
    pods.apply(&[proxy("uid-p", "node-a")]);
    assert_eq!(ask(&pods, "web"), Err("not_on_node"));
    assert_eq!(ask(&pods, "proxy"), Ok(()));
    pods.apply(&[pod("web", "uid-w", "web", "node-b", "Running")]);
    assert_eq!(ask(&pods, "web"), Err("not_on_node"));
    pods.apply(&[pod("web", "uid-w", "web", "node-a", "Pending")]);
    assert_eq!(ask(&pods, "web"), Ok(()));
    for phase in ["Succeeded", "Failed"] {
        pods.apply(&[pod("web", "uid-w", "web", "node-a", phase)]);
        assert_eq!(ask(&pods, "web"), Err("not_on_node"));
    }
    pods.apply(&[pod("web", "uid-w", "web", "node-a", "Running")]);
    assert_eq!(ask(&pods, "web"), Ok(()));
    pods.apply(&[StoreChange::Delete(objects::ObjectKey::new(
        Kind::Pod,
        "demo",
        "web",
    ))]);
    assert_eq!(ask(&pods, "web"), Err("not_on_node"));
    pods.apply(&[proxy("uid-other", "node-a")]);
    assert_eq!(ask(&pods, "proxy"), Err("caller_pod_replaced"));
    pods.apply(&[proxy("uid-p", "node-b")]);
    assert_eq!(ask(&pods, "proxy"), Err("caller_node"));
}

#[tokio::test]
async fn who_waits_hears_that_a_pod_has_gone() {
    let pods = Pods::default();
    let running = || pod("web", "uid-1", "web", "node-a", "Running");
    let deleted = || StoreChange::Delete(objects::ObjectKey::new(Kind::Pod, "demo", "web"));
    let caller = Caller {
        namespace: "demo".to_owned(),
        service_account: "web".to_owned(),
        pod_name: "web".to_owned(),
        pod_uid: "uid-1".to_owned(),
        node: "node-a".to_owned(),
    };
    let is_gone = |presence: &Presence| presence.waiter.gone.is_cancelled();
    for going in [
        deleted(),
        pod("web", "uid-2", "web", "node-a", "Running"),
        pod("web", "uid-1", "web", "node-a", "Failed"),
    ] {
        pods.apply(&[running()]);
        let (first, second) = (pods.presence(&caller), pods.presence(&caller));
        pods.apply(&[running(), pod("other", "uid-3", "web", "node-a", "Failed")]);
        assert!(!is_gone(&first));
        drop(second);
        pods.apply(&[going]);
        first.ended().await;
        // The API server was put back to an earlier state: it is there again.
        pods.apply(&[running()]);
        let later = pods.presence(&caller);
        drop(first);
        assert!(!is_gone(&later));
        pods.apply(&[deleted()]);
        later.ended().await;
    }
    let known = pods.known.read().unwrap();
    assert_eq!(known.leaving.len(), 0);
}
