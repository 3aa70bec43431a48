use super::{PodMaker, pod_maker};
use crate::lenient::parse_leniently;
use crate::{Reading, UnreadObject};

fn read(text: &str) -> Reading {
    let reading = parse_leniently("m.yaml", text);
    assert!(reading.errors.is_empty(), "{:?}", reading.errors);
    reading
}

fn maker(document: &UnreadObject) -> PodMaker<'_> {
    pod_maker(document).unwrap()
}

const TEMPLATE: &str =
    "template: {metadata: {labels: {app: db}}, spec: {serviceAccountName: db, containers: [{name: a}]}}";

#[test]
fn each_kind_gives_a_pod_and_a_deployment_that_selects_it() {
    for (head, spec) in [
        (
            "apiVersion: apps/v1\nkind: StatefulSet",
            format!("{{serviceName: db, selector: {{matchLabels: {{app: db}}}}, {TEMPLATE}}}"),
        ),
        (
            "apiVersion: apps/v1\nkind: DaemonSet",
            format!("{{selector: {{matchLabels: {{app: db}}}}, {TEMPLATE}}}"),
        ),
        (
            "apiVersion: apps/v1\nkind: ReplicaSet",
            format!("{{selector: {{matchLabels: {{app: db}}}}, {TEMPLATE}}}"),
        ),
        (
            "apiVersion: apps/v1\nkind: StatefulSet",
            format!("{{{TEMPLATE}}}"),
        ),
        (
            "apiVersion: v1\nkind: ReplicationController",
            format!("{{selector: {{app: db}}, {TEMPLATE}}}"),
        ),
        ("apiVersion: batch/v1\nkind: Job", format!("{{{TEMPLATE}}}")),
        (
            "apiVersion: batch/v1\nkind: CronJob",
            format!("{{schedule: '* * * * *', jobTemplate: {{spec: {{{TEMPLATE}}}}}}}"),
        ),
    ] {
        let text = format!("{head}\nmetadata: {{name: db, namespace: shop}}\nspec: {spec}\n");
        let reading = read(&text);
        let maker = maker(&reading.unread[0]);
        let pod = maker.pod().unwrap();
        assert_eq!(pod.key().to_string(), "Pod shop/db", "{head}");
        assert_eq!(pod.as_pod().unwrap().spec.service_account_name, "db", "{head}");
        assert_eq!(pod.metadata.labels["app"], "db", "{head}");
        let deployment = maker.as_deployment("other").unwrap();
        assert_eq!(deployment.key().to_string(), "Deployment shop/other", "{head}");
        let content = deployment.as_deployment().unwrap();
        assert!(content.selector.matches(&content.template.labels), "{head}");
        assert_eq!(content.template.labels["app"], "db", "{head}");
        assert_eq!(content.template.spec.service_account_name, "db", "{head}");
    }
}

#[test]
fn a_job_without_labels_or_name_is_known_by_what_kubernetes_gives_it() {
    let reading = read(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: load-, ownerReferences: \
         [{apiVersion: batch/v1, kind: CronJob, name: load, uid: x}]}\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
    );
    let maker = maker(&reading.unread[0]);
    assert_eq!((maker.name(), maker.owner()), ("load", Some(("CronJob", "load"))));
    let deployment = maker.as_deployment("load").unwrap();
    let labels = &deployment.as_deployment().unwrap().template.labels;
    assert_eq!(labels["batch.kubernetes.io/job-name"], "load");
}

#[test]
fn what_is_wrong_with_a_template_is_said_and_other_kinds_make_none() {
    let reading = read(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec: {template: {spec: {containerz: []}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
    );
    let problem = maker(&reading.unread[0]).pod().unwrap_err().to_string();
    assert!(problem.contains("spec.containerz"), "{problem}");
    assert!(pod_maker(&reading.unread[1]).is_none());
}
