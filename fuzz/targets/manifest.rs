//! A manifest's plain bytes: what is accepted lies inside the target, in order, and is written again as it
//! was read.
#![no_main]

use backstop::path;
use backstop::vault::manifest::{Content, Line, ManifestReader, Placement, TreeHasher, write_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = ManifestReader::new(data) else { return };
    let segments = reader.header().segments.len();
    let (mut last, mut lines, mut tree) = (String::new(), 0, TreeHasher::default());
    while let Ok(Some(line)) = reader.next_line() {
        let Ok(line) = line else { continue };
        lines += 1;
        assert!(path::check(line.path()).is_ok());
        assert!(lines == 1 || line.path() > last.as_str(), "in order, each once");
        last = line.path().to_owned();
        let Line::Entry(entry) = line else { continue };
        if let Content::File { size, placement, .. } = &entry.content {
            match placement {
                Placement::Whole { segment, .. } => assert!((*segment as usize) < segments),
                Placement::Chunks(chunks) => {
                    assert!(chunks.iter().all(|c| (c.segment as usize) < segments));
                    assert_eq!(chunks.iter().map(|c| c.size).sum::<u64>(), *size);
                }
            }
        }
        tree.add(&entry);
        // With a header that allows it, the written line is read as the same entry.
        let mut header = serde_json::to_value(reader.header()).expect("a header is JSON");
        header["entries"] = 1.into();
        let mut again = serde_json::to_vec(&header).expect("a header is JSON");
        again.push(b'\n');
        write_entry(&mut again, &entry, |n| n);
        let mut reread = ManifestReader::new(again.as_slice()).expect("a header");
        match reread.next_line() {
            Ok(Some(Ok(Line::Entry(same)))) => assert_eq!(same, entry),
            other => panic!("{other:?}"),
        }
    }
    let _ = tree.finish();
});
