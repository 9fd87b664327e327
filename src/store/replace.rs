//! Small files that are replaced whole or not at all.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file beside the old one and renames it over it; on the disk before it gets its name where it is `kept`.
pub fn replace(path: &Path, bytes: &[u8], kept: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    if kept {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
