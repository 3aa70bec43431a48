use std::{fs, time::Duration};

use super::*;
use crate::test_support::needs_root;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn runs_to_the_end_with_input() {
    let output = Command::new("cat").run("text", LIMIT).await.unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, "text");
    let output = Command::new("sh")
        .args(["-c", "echo no >&2; exit 3"])
        .run("", LIMIT)
        .await
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(3), "no\n"));
    // A command that reads nothing of a large input.
    let output = Command::new("true")
        .run(&"x".repeat(1 << 20), LIMIT)
        .await
        .unwrap();
    assert!(output.status.success());
}

#[tokio::test]
async fn environment_and_directory_are_as_asked() {
    let command = Command::new("/bin/sh").args(["-c", "echo $A; pwd; echo ${HOME-unset}"]);
    let output = command
        .env("A", "b")
        .env_clear()
        .current_dir("/usr")
        .run("", LIMIT)
        .await
        .unwrap();
    assert_eq!(output.stdout, "b\n/usr\nunset\n");
}

#[tokio::test]
async fn too_slow_is_killed() {
    let error = Command::new("sleep")
        .arg("60")
        .run("", Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn failures_name_what_is_wrong() {
    let error = Command::new("no-such-program-here").spawn().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("program no-such-program-here is not found"),
        "{error}"
    );
    let error = Command::new("true")
        .bind_file("/no/such/file", "/etc/hosts")
        .spawn()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot bind /no/such/file for true"),
        "{error}"
    );
    let error = Command::new("/etc/passwd").spawn().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot start /etc/passwd: executing it"),
        "{error}"
    );
    if needs_root() {
        return;
    }
    // A directory cannot be bound over a file.
    let error = Command::new("true")
        .bind_file("/usr", "/etc/hosts")
        .spawn()
        .unwrap_err();
    let expected = "cannot start true: binding files in its mount namespace";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn runs_in_a_network_namespace_with_files_of_its_own() {
    if needs_root() {
        return;
    }
    let namespace = crate::Namespace::create().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let resolver = directory.path().join("resolv.conf");
    fs::write(&resolver, "nameserver 192.0.2.53\n").unwrap();
    let before = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let command = Command::new("sh")
        .args(["-c", "cat /etc/resolv.conf; stat -L -c %i /proc/self/ns/net"])
        .network(&namespace)
        .bind_file(&resolver, "/etc/resolv.conf");
    let output = command.run("", LIMIT).await.unwrap();
    assert_eq!(
        output.stdout,
        format!("nameserver 192.0.2.53\n{}\n", namespace.id().inode),
        "{}",
        output.stderr
    );
    assert_eq!(
        fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        before,
        "ours is untouched"
    );
}

#[tokio::test]
async fn pins_made_later_are_seen_where_their_directory_is_shared() {
    if needs_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    crate::share_mounts_below(directory.path()).unwrap();
    crate::share_mounts_below(directory.path()).unwrap();
    let pin = directory.path().join("pin");
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "").unwrap();
    // Opens the pin only once it is told to, by a line on a fifo.
    let fifo = directory.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = directory.path().join("output");
    let script = format!("read line < {}; stat -f -c %T {}", fifo.display(), pin.display());
    let mut child = Command::new("sh")
        .args(["-c", script.as_str()])
        .bind_file(&hosts, "/etc/hosts")
        .stdout(File::create(&output).unwrap())
        .spawn()
        .unwrap();
    crate::Namespace::create().unwrap().pin(&pin).unwrap();
    let go = fifo.clone();
    tokio::task::spawn_blocking(move || fs::write(go, "go\n"))
        .await
        .unwrap()
        .unwrap();
    let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    crate::Namespace::unpin(&pin).unwrap();
    nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(&output).unwrap(), "nsfs\n");
}

#[tokio::test]
async fn kills_only_the_process_that_was_meant() {
    let mut child = Command::new("sleep").arg("60").process_group().spawn().unwrap();
    assert!(is_alive(child.pid, child.start_time));
    // Another process got the id: its start time differs, so nothing happens to it.
    assert!(!is_alive(child.pid, child.start_time + 1));
    assert!(!kill(child.pid, child.start_time + 1, Signal::SIGKILL).unwrap());
    assert!(!kill_group(child.pid, child.start_time + 1, Signal::SIGKILL).unwrap());
    assert!(child.try_wait().unwrap().is_none());
    assert!(child.kill(Signal::SIGTERM).unwrap());
    let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    assert!(!is_alive(child.pid, child.start_time));
    assert!(!child.kill(Signal::SIGTERM).unwrap());
    for group in [0, 1, u32::MAX] {
        assert!(
            kill(group, 0, Signal::SIGKILL).is_err(),
            "{group} must never be signalled"
        );
        assert!(
            kill_group(group, 0, Signal::SIGKILL).is_err(),
            "{group} must never be signalled"
        );
    }
}

#[tokio::test]
async fn a_group_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let script = format!(
        "sleep 60 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait",
        pid_file.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", script.as_str()])
        .process_group()
        .spawn()
        .unwrap();
    let grandchild = loop {
        if let Ok(text) = fs::read_to_string(&pid_file) {
            break text.trim().parse::<u32>().unwrap();
        }
        assert!(child.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let started = start_time(grandchild).unwrap();
    assert!(kill_group(child.pid, child.start_time, Signal::SIGKILL).unwrap());
    tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    let gone = async {
        while is_alive(grandchild, started) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}
