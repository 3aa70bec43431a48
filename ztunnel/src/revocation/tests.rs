use super::*;

#[test]
fn a_change_is_taken_once_it_has_settled() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut seen = Debounce::new(0);
    assert!(!seen.observe(at(0), 0));
    assert!(!seen.observe(at(1), 1));
    assert!(!seen.observe(at(2), 2), "still changing");
    assert!(!seen.observe(at(3), 2));
    assert!(seen.observe(at(4), 2));
    assert!(!seen.observe(at(9), 2), "once");
    assert!(!seen.observe(at(10), 3));
    assert!(!seen.observe(at(11), 2), "it went back");
    assert!(!seen.observe(at(12), 3));
    assert!(!seen.observe(at(13), 3));
    assert!(seen.observe(at(14), 3));
}

#[test]
fn a_mounted_directory_is_read_through_its_links() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let stamp = |text: &str| {
        let data = path.join(format!("..{text}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("ca-crl.pem"), text).unwrap();
        let link = path.join("..new");
        std::os::unix::fs::symlink(&data, &link).unwrap();
        fs::rename(&link, path.join("..data")).unwrap();
        Stamp::of(path)
    };
    std::os::unix::fs::symlink("..data/ca-crl.pem", path.join("ca-crl.pem")).unwrap();
    let first = stamp("1");
    assert_eq!(first, Stamp::of(path));
    let names: Vec<_> = files(path).unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, vec![path.join("ca-crl.pem")]);
    assert_ne!(first, stamp("2"), "an exchanged link is a change");
    let error = load(path).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert_eq!(Stamp::of(&path.join("missing")), Stamp::default());
}

#[test]
fn without_a_list_everybody_is_refused_only_where_one_is_required() {
    let missing = Path::new("/nonexistent/crl.pem");
    let trust = Trust::default();
    load_first(missing, false, &trust);
    assert!(matches!(trust.revocation(), Revocation::Unchecked));
    load_first(missing, true, &trust);
    let Revocation::Closed(reason) = trust.revocation() else {
        panic!("{:?}", trust.revocation())
    };
    assert!(reason.contains("/nonexistent/crl.pem"), "{reason}");
}
