use super::*;

fn service(endpoints: &[&str]) -> Virtual {
    Virtual {
        protocol: Protocol::Tcp,
        address: "10.96.0.10:80".parse().unwrap(),
        endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
        comment: "default/web:http".to_owned(),
    }
}

#[test]
fn endpoints_share_evenly_and_the_last_takes_the_rest() {
    let rules = service_rules(
        &[service(&[
            "10.244.1.2:8080",
            "10.244.2.2:8080",
            "10.244.2.3:8080",
        ])],
        false,
    );
    let chosen: Vec<&str> = rules.lines().filter(|line| line.contains("DNAT")).collect();
    assert_eq!(chosen.len(), 3);
    assert!(chosen[0].contains("--probability 0.3333333333 ") && chosen[0].ends_with("10.244.1.2:8080"));
    assert!(chosen[1].contains("--probability 0.5000000000 "));
    assert!(!chosen[2].contains("statistic"));
    assert!(rules.contains("-A LAB-HAIRPIN -s 10.244.2.3/32 -d 10.244.2.3/32 -j MASQUERADE"));
    assert_eq!(
        rules.lines().filter(|line| line.contains("MASQUERADE")).count(),
        3
    );
    assert!(!rules.contains("REJECT --reject-with"));
}

#[test]
fn a_service_without_endpoints_is_rejected() {
    let rules = service_rules(&[service(&[])], false);
    assert!(rules.contains(
        "-A LAB-REJECT -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment \"default/web:http\" -j REJECT \
         --reject-with icmp-port-unreachable"
    ));
    assert!(!rules.contains("DNAT"));
}

#[test]
fn families_are_kept_apart_and_comments_cannot_inject() {
    let mut evil = service(&["10.244.1.2:8080"]);
    evil.comment = "a\"\nCOMMIT -j".to_owned();
    let v4 = service_rules(&[evil.clone()], false);
    assert!(v4.contains("--comment \"aCOMMIT -j\""));
    assert_eq!(v4.matches("\nCOMMIT\n").count(), 2);
    assert!(!service_rules(&[evil], true).contains("10.96"));
}
