//! The file systems of a tree: one that goes away while the tree is read makes what is on it look deleted.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// So many mounts are held open.
const MOST_HELD: usize = 128;

/// Which directory it is: of which mount, device and inode. The mount is 0 where the kernel does not say.
type Place = (u64, (u32, u32), u64);

/// The root of a tree and every file system mounted below it, as a walk met them.
#[derive(Default)]
pub struct Mounts(Vec<Mount>);

/// A directory on another file system than the one it lies in.
struct Mount {
    directory: PathBuf,
    then: Place,
    /// Held open: what is idle is not taken away meanwhile, and its numbers stay its own. Only so many are.
    _held: Option<OwnedFd>,
    /// The mount that it lies in.
    above: Option<usize>,
    /// Whether anything on it, or on a mount in it, is backed up.
    used: bool,
}

/// Where a walk is.
#[derive(Clone, Copy)]
pub struct At {
    mount: u64,
    device: (u32, u32),
    /// Among the mounts.
    number: usize,
}

impl Mounts {
    /// Enters a directory that lies in another; none lies above the root.
    pub fn enter(&mut self, directory: &Path, above: Option<At>) -> io::Result<At> {
        let held = open(directory)?;
        let then @ (mount, device, _) = place(&held)?;
        if let Some(above) = above.filter(|above| (above.mount, above.device) == (mount, device)) {
            return Ok(above);
        }
        let held = Some(held).filter(|_| self.0.len() < MOST_HELD);
        let above = above.map(|above| above.number);
        self.0.push(Mount { directory: directory.to_owned(), then, _held: held, above, used: above.is_none() });
        Ok(At { mount, device, number: self.0.len() - 1 })
    }

    /// Something there is backed up.
    pub fn used(&mut self, at: At) {
        let mut number = Some(at.number);
        while let Some(mount) = number.and_then(|n| self.0.get_mut(n)).filter(|mount| !mount.used) {
            mount.used = true;
            number = mount.above;
        }
    }

    /// One that is not what it was, of those on which anything is backed up.
    pub fn gone(&self) -> Option<&Path> {
        let same = |mount: &Mount| match open(&mount.directory).and_then(place) {
            Ok(now) => now == mount.then,
            // Below the root one may be taken away together with its directory, as for a snapshot or an image.
            Err(e) => e.kind() == io::ErrorKind::NotFound && mount.above.is_some(),
        };
        self.0.iter().find(|mount| mount.used && !same(mount)).map(|mount| mount.directory.as_path())
    }
}

fn place(directory: impl AsFd) -> io::Result<Place> {
    use rustix::fs::{AtFlags, StatxFlags, fstat, major, minor, statx};
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let Ok(found) = statx(&directory, "", AtFlags::EMPTY_PATH, mask) else {
        // An old kernel, or a filter of system calls that does not know it.
        let found = fstat(directory)?;
        return Ok((0, (major(found.st_dev), minor(found.st_dev)), found.st_ino));
    };
    let mount = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id };
    Ok((mount, (found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    Ok(open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
