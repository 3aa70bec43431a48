use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::program::binary;

/// A process that takes a lab down when the test's process ends without having done so, however it ends. It reads from
/// a pipe that only the test holds open.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn new(lab: &str) -> Guard {
        let child = Command::new("sh")
            .args(["-c", "read -r _ || exec \"$0\" lab down --name \"$1\""])
            .arg(binary("ztctl"))
            .arg(lab)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the test, not for this.
            .process_group(0)
            .spawn()
            .expect("starting sh");
        Guard(child)
    }

    /// The lab is down.
    pub(crate) fn release(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}
