//! The target directory: everything is opened beneath it, and no link is ever followed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use super::RestoreError;
use crate::path::{self, PathProblem};
use crate::store::{HashingReader, Sha256};
use crate::vault::manifest::Mtime;

/// The kernel is asked so often where a link leads.
const MOST_ASKED: u32 = 1000;

/// The directory that a restore writes into.
pub(super) struct Place {
    root: PathBuf,
    fd: OwnedFd,
    overwrite: bool,
    /// Whether what is written may fail after it was taken.
    defers: bool,
}

/// File systems that take what is written and may lose it later, with an error that closing a file would tell and nobody
/// hears: NFS, SMB, CIFS, SMB2, FUSE, 9P, Ceph, AFS. As statfs(2) names them.
const DEFERRING: [u32; 8] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0x5346_414F];

/// A path split into its directory and its name, as bytes.
pub(super) struct Target {
    parent: Vec<u8>,
    name: Vec<u8>,
}

impl Target {
    pub fn of(encoded: &str) -> Result<Self, PathProblem> {
        let raw = path::decode(encoded)?;
        let cut = raw.iter().rposition(|b| *b == b'/');
        Ok(match cut {
            Some(cut) => Self { parent: raw[..cut].to_vec(), name: raw[cut + 1..].to_vec() },
            None => Self { parent: Vec::new(), name: raw },
        })
    }
}

/// The directory opened last, since records of one directory follow one another.
#[derive(Default)]
pub(super) struct LastParent(Option<(Vec<u8>, OwnedFd)>);

impl Place {
    /// Opens a new or empty directory; with `overwrite`, any.
    pub fn open(root: &Path, overwrite: bool) -> Result<Self, RestoreError> {
        let write = |operation| move |source| RestoreError::Write { operation, path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(write("create"))?;
        let mut entries = std::fs::read_dir(root).map_err(write("list"))?;
        if !overwrite && entries.next().is_some() {
            return Err(RestoreError::TargetNotEmpty(root.to_owned()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| write("open")(e.into()))?;
        let kind = rustix::fs::statfs(root).map_err(|e| write("open")(e.into()))?.f_type;
        // Wider on some machines; the numbers are of 32 bits.
        let defers = DEFERRING.iter().any(|known| i64::from(*known) == kind as i64 & 0xFFFF_FFFF);
        Ok(Self { root: root.to_owned(), fd, overwrite, defers })
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A directory beneath the root, made with its parents if absent.
    fn directory(&self, relative: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if relative.is_empty() {
            return self.fd.try_clone();
        }
        match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(fd),
            Err(rustix::io::Errno::NOENT) => {
                let cut = relative.iter().rposition(|b| *b == b'/');
                let (above, name) = cut.map_or((&[] as &[u8], relative), |cut| (&relative[..cut], &relative[cut + 1..]));
                let above = self.directory(above)?;
                match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                Ok(rustix::fs::openat2(&above, name, flags, Mode::empty(), resolve)?)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn parent<'a>(&self, target: &Target, last: &'a mut LastParent) -> io::Result<&'a OwnedFd> {
        if last.0.as_ref().is_none_or(|(path, _)| *path != target.parent) {
            last.0 = Some((target.parent.clone(), self.directory(&target.parent)?));
        }
        last.0.as_ref().map(|(_, fd)| fd).ok_or_else(|| io::Error::other("no directory"))
    }

    /// Makes a directory; one that is there already is kept.
    pub fn make_dir(&self, target: &Target, last: &mut LastParent) -> io::Result<()> {
        let parent = self.parent(target, last)?;
        match rustix::fs::mkdirat(parent, &target.name[..], Mode::from_raw_mode(0o777)) {
            Err(rustix::io::Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, &target.name[..], AtFlags::SYMLINK_NOFOLLOW)?;
                match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                    rustix::fs::FileType::Directory => Ok(()),
                    _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
                }
            }
            other => Ok(other?),
        }
    }

    fn make_way(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn create(&self, parent: &OwnedFd, name: &[u8], mode: Option<u32>) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What has a mode of its own is nobody else's until it has it.
        let first = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
        match rustix::fs::openat(parent, name, flags, first) {
            Err(rustix::io::Errno::EXIST) if self.overwrite => {
                self.make_way(parent, name)?;
                Ok(rustix::fs::openat(parent, name, flags, first)?.into())
            }
            other => Ok(other?.into()),
        }
    }

    /// Writes a whole file.
    pub fn write_file(
        &self,
        target: &Target,
        bytes: &[u8],
        mode: Option<u32>,
        mtime: Option<Mtime>,
        last: &mut LastParent,
    ) -> io::Result<()> {
        let parent = self.parent(target, last)?;
        let mut file = self.create(parent, &target.name, mode)?;
        let written = file.write_all(bytes).and_then(|()| self.settle(&file)).and_then(|()| finish(&file, mode, mtime));
        if written.is_err() {
            // A torn file must not look like a restored one.
            let _ = self.make_way(parent, &target.name);
        }
        written
    }

    /// Whether a file of these bytes is there already, whole; it gets the mode and time that it should have.
    pub fn has_file(
        &self,
        target: &Target,
        (sha256, size): (&Sha256, u64),
        mode: Option<u32>,
        mtime: Option<Mtime>,
        last: &mut LastParent,
    ) -> bool {
        let mut same = || -> io::Result<bool> {
            let parent = self.parent(target, last)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(parent, &target.name[..], flags, Mode::empty())?);
            let stat = file.metadata()?;
            if !stat.is_file() || stat.len() != size {
                return Ok(false);
            }
            let mut hashed = HashingReader::new(&file);
            io::copy(&mut hashed, &mut io::sink())?;
            let same = hashed.finish().0 == *sha256;
            if same {
                finish(&file, mode, mtime)?;
            }
            Ok(same)
        };
        // What cannot be looked at is written again.
        same().unwrap_or(false)
    }

    /// Begins a large file under a temporary name.
    ///
    /// The same file always has the same: a restore that goes on takes the place of one that was broken off.
    pub fn begin_large(&self, target: &Target, size: u64) -> io::Result<Large> {
        let parent = self.directory(&target.parent)?;
        let temporary = format!(".backstop-part-{}", &Sha256::of(&target.name).to_string()[..24]).into_bytes();
        self.make_way(&parent, &temporary)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&parent, &temporary[..], flags, Mode::from_raw_mode(0o600))?);
        file.set_len(size)?;
        Ok(Large { parent, temporary, name: target.name.clone(), file })
    }

    /// Gives a finished large file its name.
    pub fn finish_large(&self, large: &Large, mode: Option<u32>, mtime: Option<Mtime>) -> io::Result<()> {
        use rustix::io::Errno;
        self.settle(&large.file)?;
        finish(&large.file, mode.or(Some(0o644)), mtime)?;
        if self.overwrite {
            self.make_way(&large.parent, &large.name)?;
        }
        let (dir, from, to) = (&large.parent, &large.temporary[..], &large.name[..]);
        match rustix::fs::renameat_with(dir, from, dir, to, rustix::fs::RenameFlags::NOREPLACE) {
            // NFS and others cannot be asked so.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(rustix::fs::renameat(dir, from, dir, to)?),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(e) => Err(e.into()),
            },
            other => Ok(other?),
        }
    }

    /// What was written is there, or an error says that it is not.
    fn settle(&self, file: &File) -> io::Result<()> {
        if self.defers { file.sync_data() } else { Ok(()) }
    }

    /// Takes an unfinished large file away.
    pub fn drop_large(&self, large: &Large) {
        let _ = self.make_way(&large.parent, &large.temporary);
    }

    /// Makes a symbolic link.
    pub fn make_link(&self, target: &Target, leads_to: &[u8], mtime: Option<Mtime>) -> io::Result<()> {
        let parent = self.directory(&target.parent)?;
        if self.overwrite {
            self.make_way(&parent, &target.name)?;
        }
        rustix::fs::symlinkat(leads_to, &parent, &target.name[..])?;
        if let Some(mtime) = mtime {
            rustix::fs::utimensat(&parent, &target.name[..], &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Removes a link that leads out of the root, by itself or through others, or of which the kernel does not say where it
    /// leads; says whether it did.
    pub fn take_back_if_outside(&self, target: &Target) -> io::Result<bool> {
        use rustix::io::Errno;
        let path = [&target.parent[..], if target.parent.is_empty() { b"" } else { b"/" }, &target.name[..]].concat();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let lead = || rustix::fs::openat2(&self.fd, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
        // Whenever anything on the machine is renamed or mounted meanwhile, the kernel asks to be asked again.
        let led = (0..MOST_ASKED).map(|_| lead()).find(|led| !matches!(led, Err(Errno::AGAIN)));
        match led {
            // To something inside, or to nothing at all.
            Some(Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)) => Ok(false),
            _ => {
                let dir = self.directory(&target.parent)?;
                self.make_way(&dir, &target.name).map(|()| true)
            }
        }
    }

    /// Gives a directory its mode and time, once all is in it.
    pub fn finish_dir(&self, target: &Target, mode: Option<u32>, mtime: Option<Mtime>) -> io::Result<()> {
        let parent = self.directory(&target.parent)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::openat(&parent, &target.name[..], flags, Mode::empty())?);
        finish(&directory, mode, mtime)
    }
}

/// A large file that is being put together.
pub(super) struct Large {
    parent: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    pub file: File,
}

fn finish(file: &File, mode: Option<u32>, mtime: Option<Mtime>) -> io::Result<()> {
    if let Some(mode) = mode {
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode & 0o7777))?;
    }
    if let Some(mtime) = mtime {
        rustix::fs::futimens(file.as_fd(), &times(mtime))?;
    }
    Ok(())
}

fn times(mtime: Mtime) -> Timestamps {
    let at = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: at, last_modification: at }
}
