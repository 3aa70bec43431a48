//! Which files the kernel says have changed.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use objects::{Kind, ObjectKey};
use tokio::io::unix::AsyncFd;

use super::layout::Layout;
use super::scan;
use crate::SourceError;

/// Watches over the folders of one directory.
pub(super) struct Notify {
    ready: AsyncFd<Arc<Handle>>,
}

impl Notify {
    /// Begins with the top folder alone; [`Watches::extend`] adds the others.
    pub(super) fn new(layout: &Layout) -> Result<(Notify, Watches), SourceError> {
        let failed = |error: io::Error| SourceError::Notify {
            path: layout.root().to_owned(),
            source: error,
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|error| failed(error.into()))?;
        let handle = Arc::new(Handle(inotify));
        // Deprecated because a type could give another file descriptor each time it is asked. Ours owns one for life;
        // the replacement is an unsafe function for the same promise.
        #[allow(deprecated)]
        let ready = AsyncFd::new(handle.clone()).map_err(failed)?;
        Ok((
            Notify { ready },
            Watches {
                handle,
                folders: HashMap::new(),
            },
        ))
    }

    /// Waits for something to happen. What happened is then taken from [`Watches::take`].
    pub(super) async fn wait(&self) -> io::Result<()> {
        // Cleared before anything is read, so that what happens during the reading wakes the next wait.
        self.ready.readable().await?.clear_ready();
        Ok(())
    }
}

/// The watched folders, used from blocking code.
pub(super) struct Watches {
    handle: Arc<Handle>,
    folders: HashMap<WatchDescriptor, Folder>,
}

/// What may have changed.
#[derive(Default)]
pub(super) struct Dirty {
    /// Folders came or went, or the kernel lost count.
    pub(super) everything: bool,
    /// These objects.
    pub(super) objects: BTreeSet<ObjectKey>,
}

impl Watches {
    /// Watches every folder that there is now. The caller holds the lock, so that no folder comes in between.
    pub(super) fn extend(&mut self, layout: &Layout) -> Result<(), SourceError> {
        self.add(layout.root(), Folder::Top)?;
        for kind in Kind::ALL {
            self.add(&layout.kind_dir(kind), Folder::Kind)?;
        }
        for folder in scan::folders(layout)? {
            self.add(&folder.path, Folder::Namespace(folder.kind, folder.namespace))?;
        }
        Ok(())
    }

    /// What happened since the last call.
    pub(super) fn take(&mut self) -> io::Result<Dirty> {
        let mut dirty = Dirty::default();
        loop {
            match self.handle.0.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.note(event, &mut dirty)),
                Err(Errno::EAGAIN) => return Ok(dirty),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note(&mut self, event: InotifyEvent, dirty: &mut Dirty) {
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.folders.remove(&event.wd);
            dirty.everything = true;
            return;
        }
        match (self.folders.get(&event.wd), event.name) {
            (Some(Folder::Namespace(kind, namespace)), Some(name)) => {
                dirty.objects.extend(Layout::key_of(*kind, namespace, &name));
            }
            // The store's own files: the revision is read after every wake-up anyway.
            (Some(Folder::Top), Some(_)) if !event.mask.contains(AddWatchFlags::IN_ISDIR) => {}
            _ => dirty.everything = true,
        }
    }

    /// Adding a folder again is no error and changes nothing.
    fn add(&mut self, path: &Path, folder: Folder) -> Result<(), SourceError> {
        let mut interesting = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        if matches!(folder, Folder::Namespace(..)) {
            // For who writes a file in place. Not in the top folder, where every reader opens and closes the lock.
            interesting |= AddWatchFlags::IN_CLOSE_WRITE;
        }
        match self.handle.0.add_watch(path, interesting) {
            Ok(descriptor) => {
                self.folders.insert(descriptor, folder);
                Ok(())
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(error) => Err(SourceError::Notify {
                path: path.to_owned(),
                source: error.into(),
            }),
        }
    }
}

enum Folder {
    Top,
    Kind,
    Namespace(Kind, String),
}

struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
