//! One supervisor for each lab.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::error::LabError;
use crate::layout::Layout;

const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Held by a lab's supervisor for as long as it lives, and by who cleans up after one. The kernel gives it back however
/// its holder ends.
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Takes the lock, or says that the lab is up.
pub(crate) fn take(layout: &Layout) -> Result<Lock, LabError> {
    Layout::create_root()?;
    let path = layout.lock();
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(LabError::system(format!("opening {}", path.display())))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| LabError::AlreadyUp(layout.name().to_owned()))?;
        // The file may have been removed by its last holder between the two lines above.
        let same = file.metadata().is_ok_and(|ours| {
            fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        });
        if same {
            return Ok(Lock { _file: file });
        }
    }
}

/// [`take`], but waits a moment for one who only asks whether the lock is held.
pub(crate) async fn take_patiently(layout: &Layout) -> Result<Lock, LabError> {
    for _ in 0..ATTEMPTS {
        match take(layout) {
            Err(LabError::AlreadyUp(_)) => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    take(layout)
}

/// Whether somebody holds the lock.
pub(crate) fn is_held(layout: &Layout) -> bool {
    layout.lock().exists() && matches!(take(layout), Err(LabError::AlreadyUp(_)))
}

impl Lock {
    /// Gives the lock back and removes its file.
    pub(crate) fn remove(self, layout: &Layout) {
        let _ = fs::remove_file(layout.lock());
    }
}
