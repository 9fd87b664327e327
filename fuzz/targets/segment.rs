//! A segment's tar: members are visited without a panic and within the limit, and what this program writes
//! it reads.
#![no_main]

use std::io::Read;

use backstop::path;
use backstop::vault::segment::{Continue, append_end, append_header, pad, visit_members};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut total = 0;
    let _ = visit_members(data, LIMIT, |_, body| {
        if let Some((_, reader)) = body {
            total += reader.take(LIMIT * 2).read_to_end(&mut Vec::new())? as u64;
        }
        Ok(Continue::Yes)
    });
    assert!(total <= LIMIT);

    // The same bytes as a name, which is always an encoded path, and a body.
    let cut = data.len() / 2;
    let name = String::from_utf8_lossy(&data[..cut]).into_owned();
    if path::check(&name).is_err() {
        return;
    }
    let body = &data[cut..];
    let mut tar = Vec::new();
    append_header(&mut tar, &name, body.len() as u64);
    tar.extend_from_slice(body);
    pad(&mut tar, body.len());
    append_end(&mut tar);
    let mut seen = 0;
    visit_members(tar.as_slice(), LIMIT, |found, content| {
        let mut bytes = Vec::new();
        content.expect("a plain file").1.read_to_end(&mut bytes)?;
        assert_eq!((found, bytes.as_slice()), (name.as_str(), body));
        seen += 1;
        Ok(Continue::Yes)
    })
    .expect("its own tar");
    assert_eq!(seen, 1);
});
