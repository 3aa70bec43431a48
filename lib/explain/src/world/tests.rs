use crate::testing::{SHOP, applied, ask, objects, told, world};

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: shop, name: strict}
spec: {mtls: {mode: STRICT}}
";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: shop, name: api}
spec:
  replicas: 3
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api, tier: back}}
    spec: {serviceAccountName: api, containers: [{name: a}]}
---
";

/// Of the pods `web`; a waypoint stands in front of it.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: web, labels: {istio.io/use-waypoint: way}}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: shop, name: way}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
";

/// Policies of every reach, one of which takes the place of [`STRICT`].
fn policies() -> Vec<String> {
    let peer = |rest: &str| {
        format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{{rest}\n")
    };
    let authorization = |rest: &str| {
        format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{{rest}\n")
    };
    vec![
        peer("namespace: shop, name: strict}\nspec: {mtls: {mode: PERMISSIVE}}"),
        peer("namespace: istio-system, name: a}\nspec: {mtls: {mode: STRICT}}"),
        peer(
            "namespace: shop, name: p}\nspec: {selector: {matchLabels: {app: web}}, \
             mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}}",
        ),
        authorization("namespace: shop, name: a}\nspec: {selector: {matchLabels: {app: web}}}"),
        authorization("namespace: istio-system, name: a}\nspec: {selector: {matchLabels: {app: web}}}"),
        authorization("namespace: shop, name: a}\nspec: {action: DENY, rules: [{}]}"),
        authorization(
            "namespace: shop, name: t}\nspec: {targetRefs: [{kind: Service, group: '', name: web}], rules: [{}]}",
        ),
        authorization(
            "namespace: shop, name: t}\nspec: {targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, \
             name: way}], rules: [{}]}",
        ),
    ]
}

/// A case's own policies cost what they mean for the pods that it asks about, however many others list them too.
#[test]
fn what_policies_of_one_question_cost_does_not_grow_with_the_pods() {
    let made = |pods: usize| {
        let mut text = format!("{SHOP}{SERVICE}");
        for number in 0..pods {
            text += &format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: p{number}, labels: {{app: other}}}}\n\
                 spec: {{containers: [{{name: a}}]}}\n"
            );
        }
        let mut world = world(&text);
        let mut costs = Vec::new();
        for policy in policies() {
            for target in ["shop/web:80", "service:shop/web:80"] {
                let (caller, target) = ("sa:a/b".parse().unwrap(), target.parse().unwrap());
                let before = world.made();
                world.ask_with(objects(&policy), &caller, &target).unwrap();
                costs.push(world.made() - before);
            }
        }
        let before = world.made();
        world.with(objects(STRICT), |_| ());
        (costs, world.made() - before)
    };
    let (few, all_of_few) = made(2);
    let (many, all_of_many) = made(50);
    assert_eq!(few, many);
    assert!(few.iter().all(|cost| (2..=20).contains(cost)), "{few:?}");
    assert_eq!(
        all_of_many,
        all_of_few + 2 * 48,
        "asked about all, all of them count"
    );
}

#[test]
fn objects_of_one_question_are_gone_afterwards() {
    let mut world = world(SHOP);
    let ask = |world: &super::World| told(world, "outside/legacy", "shop/web:8080");
    assert_eq!(ask(&world), "allow no_allow_policy");
    assert_eq!(world.with(objects(STRICT), ask), "deny mtls_required");
    assert_eq!(ask(&world), "allow no_allow_policy");
    let out = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";
    assert_eq!(
        world.with(objects(&format!("{STRICT}---{out}")), ask),
        "allow not_in_mesh"
    );
    assert_eq!(world.with(objects(STRICT), ask), "deny mtls_required");
    assert_eq!(world.with([], ask), "allow no_allow_policy");
}

/// After any number of questions with objects of their own, the world is the one it was.
#[test]
fn a_world_comes_back_as_it_was() {
    let text = format!("{SHOP}{DEPLOYMENT}{SERVICE}{STRICT}");
    let mut tried = world(&text);
    let pod = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: {name}}}}}\n\
             spec: {{containers: [{{name: a}}]}}\n{rest}"
        )
    };
    for more in [
        pod("b", ""),
        pod("api", "status: {podIP: 10.1.0.7}\n") + &pod("a", ""),
        pod("web", "") + &pod("c", "status: {phase: Failed}\n"),
        DEPLOYMENT.replace("tier: back", "tier: front"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned(),
    ] {
        tried.with(objects(&more), |_| ());
    }
    for (number, more) in policies().iter().enumerate() {
        let target = ["shop/web:80", "service:shop/web:80", "outside/legacy:80"][number % 3];
        let answer = tried.ask_with(
            objects(more),
            &"sa:a/b".parse().unwrap(),
            &target.parse().unwrap(),
        );
        assert!(answer.is_ok(), "{more}");
    }
    let fresh = world(&text);
    let shown = |world: &super::World| {
        let pods: Vec<String> = world
            .pods()
            .map(|pod| format!("{:?} {:?}", pod.object.raw(), pod.membership))
            .collect();
        let workloads: Vec<String> = world
            .snapshot()
            .workloads()
            .map(|workload| format!("{workload:?}"))
            .collect();
        let policies: Vec<String> = world
            .snapshot()
            .policies()
            .map(|policy| format!("{policy:?}"))
            .collect();
        let compiled = format!("{:?} {:?}", world.compiler.addresses(), world.compiler.policies());
        (pods, workloads, policies, compiled)
    };
    assert_eq!(shown(&tried), shown(&fresh));
}

#[test]
fn a_deployment_stands_for_one_pod_unless_its_pods_are_there() {
    let mut world = world(&format!("{SHOP}{DEPLOYMENT}"));
    let pod = world.pod("shop", "api").unwrap();
    assert!(pod.made_up_address && pod.membership.is_inside());
    assert_eq!(pod.object.as_pod().unwrap().spec.service_account_name, "api");
    assert_eq!(told(&world, "shop/api", "shop/web:80"), "allow no_allow_policy");
    let own = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: api-1, labels: {app: api}}
spec: {containers: [{name: a}]}
";
    world.with(objects(own), |world| {
        assert!(world.pod("shop", "api").is_none() && world.pod("shop", "api-1").is_some());
        assert_eq!(
            told(world, "shop/api", "shop/web:80"),
            "there is no pod shop/api; there is shop/api-1"
        );
    });
    assert!(world.pod("shop", "api").is_some() && world.pod("shop", "api-1").is_none());
    let applied = applied(&format!("{SHOP}{DEPLOYMENT}"));
    assert!(
        applied.pod("shop", "api").is_none(),
        "where things run, Deployments have pods"
    );
}

#[test]
fn on_manifests_labels_count_and_on_what_is_applied_the_annotation_does() {
    let stale = SHOP.replace(
        "metadata: {namespace: outside, name: legacy}",
        "metadata: {namespace: outside, name: legacy, annotations: {ambient.istio.io/redirection: enabled}}",
    );
    let wanted = world(&stale);
    assert!(wanted.pod("shop", "web").unwrap().membership.is_inside());
    assert!(!wanted.pod("outside", "legacy").unwrap().membership.is_inside());
    let there = applied(&stale);
    assert_eq!(
        there.pod("shop", "web").unwrap().membership.to_string(),
        "is not in the mesh: it asks for it, and the node agent has not said that it is done"
    );
    assert!(there.pod("outside", "legacy").unwrap().membership.is_inside());
    assert_eq!(told(&there, "shop/client", "shop/web:80"), "allow not_in_mesh");
}

#[test]
fn pods_without_an_address_get_different_ones_and_the_answer_says_so_where_it_matters() {
    let text = SHOP
        .replace("status: {podIP: 10.1.0.2}", "")
        .replace("status: {podIP: 10.1.0.1}", "");
    let policy = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: near}
spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}
";
    let mut world = world(&text);
    let addresses: Vec<_> = ["web", "client"]
        .map(|name| {
            world
                .pod("shop", name)
                .unwrap()
                .object
                .as_pod()
                .unwrap()
                .status
                .pod_ips
                .clone()
        })
        .into();
    let texts: Vec<Vec<String>> = addresses
        .iter()
        .map(|list| list.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(
        texts,
        [["192.0.2.2", "2001:db8::2"], ["192.0.2.1", "2001:db8::1"]]
    );
    // Callers of both families can be asked about.
    for caller in ["plaintext:10.0.0.1", "plaintext:fd00::1"] {
        assert_eq!(told(&world, caller, "shop/web:80"), "allow no_allow_policy");
    }
    assert!(
        ask(&world, "shop/client", "shop/web:80")
            .unwrap()
            .notes
            .is_empty()
    );
    let answer = world
        .with(objects(policy), |world| ask(world, "shop/client", "shop/web:80"))
        .unwrap();
    assert!(!answer.is_allowed());
    assert_eq!(
        answer.notes,
        [
            "shop/client, shop/web has no address in the manifests, so one for documentation stands for it, and \
          shop/near asks for addresses: give it status.podIP"
        ]
    );
}

#[test]
fn a_pod_that_has_ended_or_was_not_understood_has_no_answer() {
    let ended = SHOP.replace(
        "status: {podIP: 10.1.0.2}",
        "status: {podIP: 10.1.0.2, phase: Succeeded}",
    );
    let ended = world(&ended);
    assert_eq!(
        told(&ended, "shop/client", "shop/web:80"),
        "nothing can be said about pod shop/client: it has ended"
    );
    let unplaced = applied(&SHOP.replace("status: {podIP: 10.1.0.2}", ""));
    assert_eq!(
        told(&unplaced, "shop/client", "shop/web:80"),
        "nothing can be said about pod shop/client: it has no address yet"
    );
}

/// A pod that is not a Deployment's own may have its name.
#[test]
fn a_deployment_has_a_pod_beside_an_unrelated_pod_of_its_name() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: other}}}}\n\
             spec: {{containers: [{{name: a}}]}}\n---\n"
        )
    };
    let names = |world: &super::World| -> Vec<String> {
        let here = world.pods().filter(|pod| pod.object.metadata.namespace == "shop");
        here.map(|pod| pod.object.metadata.name.clone()).collect()
    };
    let service = "
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: api}
spec: {selector: {app: api}, ports: [{port: 80}]}
---
";
    let mut both = world(&format!("{SHOP}{service}{}{DEPLOYMENT}", pod("api")));
    assert_eq!(names(&both), ["api", "api-deployment", "client", "web"]);
    assert_eq!(
        told(&both, "shop/client", "service:shop/api:80"),
        "allow no_allow_policy"
    );
    // It moves on while others have its name, and comes back.
    for more in ["api-deployment", "x"] {
        let expected = if more == "x" {
            "api-deployment"
        } else {
            "api-deployment-deployment"
        };
        both.with(objects(&pod(more)), |world| {
            assert!(
                names(world).contains(&expected.to_owned()),
                "{more}: {:?}",
                names(world)
            );
            assert_eq!(names(world).len(), 5);
        });
        assert_eq!(names(&both), ["api", "api-deployment", "client", "web"]);
    }
    let gone = objects(&pod("api")).remove(0).key();
    both.set([(gone, None)]);
    assert_eq!(names(&both), ["api", "client", "web"]);
}
