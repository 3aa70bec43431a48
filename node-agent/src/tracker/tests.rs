use super::*;

fn object(text: &str) -> Arc<Object> {
    Arc::new(objects::parse("test.yaml", text).unwrap().remove(0))
}

fn namespace(name: &str, mode: &str) -> Arc<Object> {
    object(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{istio.io/dataplane-mode: {mode}}}}}\n"
    ))
}

fn pod(name: &str, uid: &str, node: &str, extra: &str) -> Arc<Object> {
    object(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo, uid: {uid}}}\n\
         spec: {{nodeName: {node}, serviceAccountName: web, {extra}containers: [{{name: app, image: app}}]}}\n\
         status: {{phase: Running, podIPs: [{{ip: 10.0.0.5}}]}}\n"
    ))
}

fn batch(revision: u64, changes: Vec<StoreChange>) -> Batch {
    Batch {
        revision,
        changes,
        initial: revision == 1,
    }
}

fn put(object: Arc<Object>) -> StoreChange {
    StoreChange::Put(object)
}

fn goals(views: &[PodView]) -> Vec<(&str, Goal)> {
    views.iter().map(|view| (view.uid.as_str(), view.goal)).collect()
}

#[test]
fn excluded_namespaces_stay_out_whatever_their_labels_say() {
    let changes = || {
        vec![
            put(pod("web", "u1", "node-a", "")),
            put(namespace("demo", "ambient")),
        ]
    };
    let mut tracker = Tracker::new("node-a").excluding(["demo".to_owned()]);
    let views = tracker.apply(&batch(1, changes()));
    assert_eq!(goals(&views), [("u1", Goal::Direct)]);
    assert_eq!(views[0].reason.as_deref(), Some("its namespace is excluded"));
    let mut tracker = Tracker::new("node-a").excluding(["demo2".to_owned()]);
    assert_eq!(
        goals(&tracker.apply(&batch(1, changes()))),
        [("u1", Goal::Enrolled)]
    );
}

#[test]
fn follows_labels_of_namespaces() {
    let mut tracker = Tracker::new("node-a");
    let first = tracker.apply(&batch(
        1,
        vec![
            put(pod("web", "u1", "node-a", "")),
            put(namespace("demo", "ambient")),
        ],
    ));
    assert_eq!(goals(&first), [("u1", Goal::Enrolled)]);
    assert_eq!(first[0].addresses, [IpAddr::from([10, 0, 0, 5])]);
    assert_eq!(
        first[0].info,
        PodInfo {
            name: "web".into(),
            namespace: "demo".into(),
            service_account: "web".into()
        }
    );
    assert_eq!(tracker.apply(&batch(2, vec![])), [], "nothing changed");
    assert_eq!(
        tracker.apply(&batch(3, vec![put(namespace("other", "none"))])),
        []
    );
    let off = tracker.apply(&batch(4, vec![put(namespace("demo", "none"))]));
    assert_eq!(goals(&off), [("u1", Goal::Direct)]);
    assert!(off[0].reason.is_some());
    assert_eq!(off[0].revision, 4);
    let on = tracker.apply(&batch(5, vec![put(namespace("demo", "ambient"))]));
    assert_eq!(goals(&on), [("u1", Goal::Enrolled)]);
    let gone = tracker.apply(&batch(
        6,
        vec![StoreChange::Delete(namespace("demo", "none").key())],
    ));
    assert_eq!(goals(&gone), [("u1", Goal::Direct)]);
}

#[test]
fn knows_only_the_pods_of_its_node() {
    let mut tracker = Tracker::new("node-a");
    let changes = vec![
        put(namespace("demo", "ambient")),
        put(pod("elsewhere", "u1", "node-b", "")),
        put(pod("host", "u2", "node-a", "hostNetwork: true, ")),
    ];
    assert_eq!(tracker.apply(&batch(1, changes)), []);
}

#[test]
fn a_pod_made_again_is_another() {
    let mut tracker = Tracker::new("node-a");
    let first = vec![
        put(namespace("demo", "ambient")),
        put(pod("web", "u1", "node-a", "")),
    ];
    tracker.apply(&batch(1, first));
    let again = tracker.apply(&batch(2, vec![put(pod("web", "u2", "node-a", ""))]));
    assert_eq!(goals(&again), [("u1", Goal::Gone), ("u2", Goal::Enrolled)]);
    assert!(again[0].deleted && !again[1].deleted);
    let deleted = tracker.apply(&batch(
        3,
        vec![StoreChange::Delete(pod("web", "u2", "node-a", "").key())],
    ));
    assert_eq!(goals(&deleted), [("u2", Goal::Gone)]);
    // A new look at everything: what is not there is gone.
    tracker.apply(&batch(4, vec![put(pod("web", "u3", "node-a", ""))]));
    let all = Batch {
        revision: 5,
        changes: vec![],
        initial: true,
    };
    assert_eq!(goals(&tracker.apply(&all)), [("u3", Goal::Gone)]);
}

#[test]
fn an_ended_pod_is_gone_and_keeps_its_annotation_in_view() {
    let mut tracker = Tracker::new("node-a");
    let running = pod("web", "u1", "node-a", "");
    tracker.apply(&batch(
        1,
        vec![put(namespace("demo", "ambient")), put(running.clone())],
    ));
    let enabled = running
        .with_annotation(REDIRECTION_ANNOTATION, Some(REDIRECTION_ENABLED))
        .unwrap();
    let seen = tracker.apply(&batch(2, vec![put(Arc::new(enabled.clone()))]));
    assert_eq!(
        (seen[0].goal, seen[0].annotation),
        (Goal::Enrolled, Annotation::Enabled)
    );
    let ended = object(&enabled.to_yaml().replace("Running", "Succeeded"));
    let seen = tracker.apply(&batch(3, vec![put(ended)]));
    assert_eq!(
        (seen[0].goal, seen[0].annotation, seen[0].deleted),
        (Goal::Gone, Annotation::Enabled, false)
    );
}
