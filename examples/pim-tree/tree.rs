//! Brings a folder to a world's state: writes only what differs and removes what is gone, so that
//! a file that says the same keeps its inode and its times, as under a careful export tool.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::documents;
use crate::world::{Collection, World};

/// What was found and done.
#[derive(Default)]
pub struct Stats {
    pub documents: u64,
    pub bytes: u64,
    pub changed: u64,
    pub added: u64,
    pub deleted: u64,
}

/// Makes `out` hold `world` and nothing else in the collections' folders. Other files are left alone.
pub fn write(world: &World, out: &Path) -> io::Result<Stats> {
    let mut stats = Stats::default();
    for collection in Collection::ALL {
        let folder = out.join(collection.path());
        fs::create_dir_all(&folder)?;
        let mut before = records(&folder)?;
        for index in (0..world.len(collection)).filter(|&index| world.lives(collection, index)) {
            let name = format!("{}.json", world.id(collection, index));
            let bytes = documents::bytes(world, collection, index);
            stats.documents += 1;
            stats.bytes += bytes.len() as u64;
            let file = folder.join(&name);
            if before.remove(&name) {
                if fs::read(&file)? == bytes {
                    continue;
                }
                stats.changed += 1;
            } else {
                stats.added += 1;
            }
            fs::write(&file, bytes)?;
        }
        for name in before {
            fs::remove_file(folder.join(name))?;
            stats.deleted += 1;
        }
    }
    Ok(stats)
}

/// The records of a folder: files called `<guid>.json`.
fn records(folder: &Path) -> io::Result<HashSet<String>> {
    let mut names = HashSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        if name.len() == 41 && name.strip_suffix(".json").is_some() {
            names.insert(name);
        }
    }
    Ok(names)
}
