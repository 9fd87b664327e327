//! A log file that another system delivered: the same events whatever the size of the pieces in which it is
//! cut, each one a JSON object on one line, or an error that says where.
#![no_main]

use std::io::Cursor;

use backstop::source::import::{ChunkReader, Format, ImportError, Pointers, event_key, normalise};
use libfuzzer_sys::fuzz_target;

/// What may become of a few bytes that are well packed.
const UNPACKED: usize = 4 << 20;

fn events(data: &[u8], format: Format, piece: usize, pointers: &Pointers) -> Result<(Vec<u8>, u64), ImportError> {
    let mut chunks = ChunkReader::open(Cursor::new(data.to_vec()), format, piece)?;
    let (mut out, mut count) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next_chunk()? {
        let batch = normalise(&chunk, pointers)?;
        assert_eq!(batch.ndjson.iter().filter(|b| **b == b'\n').count() as u64, batch.events);
        out.extend(batch.ndjson);
        count += batch.events;
        if out.len() > UNPACKED {
            break;
        }
    }
    Ok((out, count))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let format = [Format::Auto, Format::Ndjson, Format::JsonArray, Format::Csv][usize::from(first % 4)];
    let pointers = Pointers::new(vec!["/id".into(), "/a/0".into()], vec!["/createdDateTime".into()]).expect("pointers");
    let whole = events(data, format, 16 << 20, &pointers);
    let pieces = events(data, format, 1 + usize::from(first / 4), &pointers);
    match (&whole, &pieces) {
        (Ok((all, _)), Ok((cut, _))) if all.len() <= UNPACKED && cut.len() <= UNPACKED => assert_eq!(all, cut),
        (Ok((all, _)), Ok(_)) => assert!(all.len() > UNPACKED),
        (Err(a), Err(b)) => assert!(!a.cause.is_empty() && !b.advice.is_empty()),
        (Ok((all, _)), Err(e)) => assert!(all.len() > UNPACKED, "only in pieces: {e}"),
        (Err(e), Ok((cut, _))) => assert!(cut.len() > UNPACKED, "only as a whole: {e}"),
    }
    if let Ok((all, _)) = &whole {
        for line in all.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            event_key(line, &pointers).expect("what was sealed is read again");
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).expect("an event is a JSON object");
        }
    }
});
