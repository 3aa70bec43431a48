#![allow(clippy::unwrap_used)]

use super::*;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[tokio::test]
async fn this_machine_is_ready_where_tests_run_as_root() {
    if !is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    // Process 1 may be out of reach where tests run.
    let found = Preflight::run(Path::new("/proc/sys/net"), None).await;
    let text = found.to_string();
    for what in [
        "kernel",
        "network namespaces",
        "transparent sockets",
        "handing over",
        "connection tracking",
        "redirection rules with iptables",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    found.ready().unwrap();
}

#[tokio::test]
async fn what_is_missing_is_told_at_once_and_with_its_remedy() {
    if !is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let found = Preflight::run(empty.path(), Some(empty.path().to_owned())).await;
    let text = found.to_string();
    // Without the setting the node does, without processes it does not.
    assert!(
        text.contains("warning  handing over of waiting connections"),
        "{text}"
    );
    assert!(
        text.contains("may be reset: mount the node's /proc/sys/net"),
        "{text}"
    );
    assert!(text.contains("MISSING  processes of the node"), "{text}");
    let error = found.ready().unwrap_err().to_string();
    assert!(
        error.starts_with("this node cannot be in the mesh: processes of the node: cannot open")
            && error.contains("CAP_SYS_PTRACE")
            && !error.contains("may be reset"),
        "{error}"
    );
}

#[tokio::test]
async fn an_old_kernel_is_told_from_a_missing_mount() {
    if !is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let settings = tempfile::tempdir().unwrap();
    let scratch = Namespace::create().unwrap();
    for (older, remedy) in [(false, "mount"), (true, "use Linux 5.14")] {
        if older {
            // As 5.13 has it: the directory, and not the setting. Nothing can be made in it from within.
            std::fs::create_dir(settings.path().join("ipv4")).unwrap();
            let missing = settings.path().join("ipv4/tcp_migrate_req");
            std::os::unix::fs::symlink("/nowhere/at/all", missing).unwrap();
        }
        let Outcome::Lesser(lack) = queues(settings.path(), &scratch).outcome else {
            panic!("it works?");
        };
        assert!(lack.remedy.contains(remedy), "{lack:?}");
    }
}

#[test]
fn each_reason_has_its_remedy() {
    let create = |errno| NamespaceError::Create(io::Error::from_raw_os_error(errno));
    for (errno, remedy) in [
        (nix::libc::ENOSPC, "user.max_net_namespaces"),
        (nix::libc::EINVAL, "CONFIG_NET_NS"),
        (nix::libc::EPERM, "CAP_SYS_ADMIN"),
    ] {
        let Outcome::Missing(lack) = no_namespace(&create(errno)).outcome else {
            panic!("{errno} is fine?");
        };
        assert!(lack.remedy.contains(remedy), "{lack:?}");
    }
    let loopback = NamespaceError::Loopback(io::Error::from_raw_os_error(nix::libc::EPERM));
    let Outcome::Missing(lack) = no_namespace(&loopback).outcome else {
        panic!("{loopback} is fine?");
    };
    assert!(lack.remedy.contains("CAP_NET_ADMIN"), "{lack:?}");
    for (error, remedy) in [
        (FirewallError::NotInstalled, "install it"),
        (FirewallError::Unusable("iptables: no".to_owned()), "modules"),
        (
            FirewallError::Tables(io::Error::from_raw_os_error(nix::libc::EPERM)),
            "CAP_NET_ADMIN",
        ),
    ] {
        let (firewall, finding) = rules(Err(error));
        assert!(firewall.is_none());
        let Outcome::Missing(lack) = finding.outcome else {
            panic!("{} is fine?", finding.what);
        };
        assert!(lack.remedy.contains(remedy), "{lack:?}");
    }
}
