use super::version_rank;

#[test]
fn stable_versions_come_first() {
    let mut versions = vec!["v1alpha3", "v1", "v1beta1", "v2", "v1beta2"];
    versions.sort_by_key(|version| version_rank(version));
    assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha3"]);
}
