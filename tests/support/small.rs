//! Disks that run full.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that runs full.
pub struct Small {
    at: PathBuf,
}

impl Small {
    /// A file system of a size, mounted; `None` where the process may not.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        done.is_ok_and(|out| out.status.success()).then(|| Self { at: at.to_owned() })
    }

    pub fn grow(&self, size: &str) {
        let out = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.at).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        super::walk(&self.at, &mut |path| {
            let _ = backstop::store::clear_immutable(path);
        });
        let _ = Command::new("umount").arg(&self.at).output();
    }
}
