//! Every way in which a file can be wrong, and the place that is named.

use std::io::{self, Read};

use super::tests::{import, pointers, zstd};
use super::*;

fn fail(file: impl AsRef<[u8]>, format: Format) -> ImportError {
    let file = file.as_ref();
    let first = import(file, format, 1 << 20).map(|i| i.lines).unwrap_err();
    assert!(!first.cause.is_empty() && !first.advice.is_empty());
    // No chunk size lets it pass.
    for chunk_bytes in [1, 40] {
        assert!(import(file, format, chunk_bytes).is_err());
    }
    first
}

/// Checks line, column and a part of the cause.
#[track_caller]
fn check(file: impl AsRef<[u8]>, line: u64, column: u64, cause: &str) {
    let error = fail(file, Format::Auto);
    assert_eq!((error.line, error.column), (Some(line), Some(column)), "{error}");
    assert!(error.cause.contains(cause), "{error}");
}

#[test]
fn bad_lines() {
    check("{}\n{}\n{\"a\":tru}\n{}", 3, 9, "expected true");
    check("{}\n\n{\"a\":1,}\n{}", 3, 8, "a key");
    check("{}\n{\"a\" 1}\n", 2, 6, "`:`");
    check("{}\n{\"a\":01}\n", 2, 7, "number");
    check("{}\n{\"a\":\"\\x\"}\n", 2, 8, "backslash");
    check("{}\n{\"a\":\"\\u12g4\"}\n", 2, 11, "backslash");
    check("{}\n{\"a\":\"\t\"}\n", 2, 7, "control character 0x09");
    check("{}\n{\"a\":\"\0\"}\n", 2, 7, "NUL");
    check("{}\n\0\0\0\n", 2, 1, "NUL");
    check("{\"a\":{}\n{}\n", 1, 8, "line ends inside");
    check("{}\n{\"a\":[1}\n", 2, 8, "`]`");
    check("{}\n{}}\n{}", 2, 3, "expected an object, found `}`");
    check(b"{}\n{\"a\":\"\xff\"}\n", 2, 7, "0xff is not valid UTF-8");
    check(b"{}\n{\"a\":\"\xc3\"}\n{]", 2, 7, "UTF-8");
    check(b"{]\n{\"a\":\"\xc3\"}\n", 1, 2, "a key");
}

#[test]
fn only_objects_are_events() {
    check("{}\n5\n", 2, 1, "found a number");
    check("{}\n\"x\"\n", 2, 1, "found a string");
    check("{}\n[{}]\n", 2, 1, "found an array");
    check("{} null", 1, 4, "found `n`");
    check("[{},\n 1]", 2, 2, "found a number");
    check("[[{}]]", 1, 2, "found an array");
    check("{\"@odata.context\":1,\"value\":[{},\n2]}", 2, 1, "found a number");
    for (file, format) in [("5\n", Format::Ndjson), ("[{}]", Format::Ndjson)] {
        assert_eq!(fail(file, format).line, Some(1));
    }
}

#[test]
fn files_cut_short() {
    for file in ["{}\n{\"a\":", "{}\n{\"a\":\"b", "{}\n{\"a\":tr", "{}\n{\"a\":-", "{}\n{"] {
        check(file, 2, file.len() as u64 - 2, "data ends inside");
    }
    check("[{},\n{}", 2, 3, "data ends inside");
    check("[{},\n", 2, 1, "data ends inside");
    check("[", 1, 2, "data ends inside");
    check("{\"@odata.context\":1,\"value\":[{}],\n\"x\":1", 2, 6, "data ends inside");
    check("{\"@odata.context\":1,\"value\":[{}]", 1, 33, "data ends inside");
}

#[test]
fn text_around_elements() {
    check("[{},]", 1, 5, "expected an object, found `]`");
    check("[{} {}]", 1, 5, "`,` or `]`");
    check("[,{}]", 1, 2, "expected an object, found `,`");
    check("[{}]\n[{}]", 2, 1, "after the end of the array");
    check("[{\n\"a\":\"x\ny\"}]", 2, 7, "in the value that starts on line 1");
    check(b"[{},\n{\"a\":\"\xff\"}]", 2, 7, "UTF-8");
    check(b"{\"@odata.context\":1,\"value\":[],\"\xff\":1}", 1, 33, "UTF-8");
    check("{\"@odata.context\":1,\"value\":[],\n\"x\":01}", 2, 6, "number");
    check("{\"@odata.context\":1,\"value\":[]}\n{}", 2, 1, "followed by something else");
    check("{\"@odata.context\":1,\"value\":[],\"value\":[]}", 1, 40, "second array");
    check("{\"@odata.context\":1,\"value\":[],\"x\":1]", 1, 37, "`,` or `}`");
    let error = fail("{}", Format::JsonArray);
    assert!(error.cause.contains("does not start with `[`"), "{error}");
}

#[test]
fn nesting() {
    let nested = |levels: usize| format!("{{}}\n{{\"a\":{}{}}}\n", "[".repeat(levels), "]".repeat(levels));
    let lines = import(nested(126), Format::Auto, 1 << 20).unwrap().lines;
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    check(nested(127), 2, 132, "more than 127 levels");
    check(nested(1_000_000), 2, 132, "more than 127 levels");
    check(format!("[{}]", nested(127).replace("{}\n", "")), 1, 133, "more than 127 levels");
    let deep = vec![format!("/a{}", "/0".repeat(1000))];
    let pointers = Pointers::new(deep, vec![]).unwrap();
    let chunk = RawChunk { data: nested(500).into_bytes(), first_line: 1 };
    assert_eq!(normalise(&chunk, &pointers).unwrap_err().line, Some(2));
}

#[test]
fn bad_tables() {
    check("a,b\n1,2\n3\n", 3, 1, "1 fields, the header has 2");
    check("a,b\n\"x\ny\",2\n1,2,3\n", 4, 1, "3 fields");
    check("a,b\n1,\"x", 2, 3, "no closing quote");
    check("a,b\n1,\"x\"y\n", 2, 6, "between a closing quote");
    check("a,b\n1,\"x\"\ry\n", 2, 6, "between a closing quote");
    check("a,b, a \n", 1, 5, "columns 1 and 3");
    check("a,,c\n1,2,3\n", 1, 3, "no name for column 2");
    check("\n,\n1,2\n", 2, 1, "no name for column 1");
    check("a,b\r1,2\r", 1, 3, "control character");
    check("a,b\n1,2\n1,\0\n", 3, 3, "NUL");
    check(b"a,b\n1,2\n1,\xe4\n", 3, 3, "UTF-8");
    check(b"a,\xe4\n", 1, 3, "UTF-8");
}

#[test]
fn not_text() {
    let utf16: Vec<u8> = "\u{feff}{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(&utf16, 1, 1, "UTF-16");
    check(zstd(&utf16), 1, 1, "UTF-16");
    check(b"\xfe\xff\0{\0}", 1, 1, "UTF-16");
    check(b"{\0\"\0", 1, 2, "NUL");
    check(b"PK\x03\x04rest", 1, 1, "ZIP");
    check(zstd(&zstd(b"{}")), 1, 1, "inside compressed data");
}

#[test]
fn damaged_packing() {
    let text = "{\"a\":\"some text, some text\"}\n".repeat(20_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    for (name, packed) in [("gzip", encoder.finish().unwrap()), ("zstd", zstd(text.as_bytes()))] {
        for keep in [5, 12, packed.len() / 2, packed.len() - 1] {
            let error = fail(&packed[..keep], Format::Auto);
            assert!(error.cause.contains(&format!("{name} data is cut short")), "{keep} {error}");
        }
        let twice = [packed.as_slice(), &packed[..packed.len() - 3]].concat();
        let error = fail(&twice, Format::Auto);
        assert!(error.cause.contains("cut short") && error.line > Some(20_000), "{error}");
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8].copy_from_slice(b"\xff\xff\xff\xff\0\0\0\0");
        fail(&damaged, Format::Auto);
        let error = fail([packed.as_slice(), b"garbage behind"].concat(), Format::Auto);
        assert!(error.cause.contains("cannot be unpacked"), "{error}");
    }
}

#[test]
fn too_long() {
    let long = "x".repeat(MAX_EVENT_BYTES);
    for file in [
        format!("{{}}\n{{\"a\":\"{long}\"}}\n{{}}\n"),
        format!("[{{}},\n{{\"a\":\"{long}\"}}]"),
        format!("a\n{long}x\n"),
        format!("a\n\"{long}"),
    ] {
        let error = import(&file, Format::Auto, 1 << 20).map(|i| i.lines).unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(1)), "{error}");
        assert!(error.cause.contains("longer than 64 MiB"));
    }
    let fits = format!("{{}}\n{{\"a\":\"{}\"}}\n{{}}\n", &long[8..]);
    assert_eq!(import(&fits, Format::Auto, 1 << 20).unwrap().lines, fits);
}

#[test]
fn failing_disk_and_repeated_errors() {
    struct Broken(&'static [u8]);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::other("cable pulled")),
                read => Ok(read),
            }
        }
    }
    let error = ChunkReader::open(Broken(b"{}\n{}\n{"), Format::Auto, 100).map(|_| ()).unwrap_err();
    assert!(error.cause.contains("cable pulled") && error.line == Some(3), "{error}");
    let mut reader = ChunkReader::open("{}\n5\n{}".as_bytes(), Format::Auto, 3).unwrap();
    assert!(reader.next_chunk().unwrap().is_some());
    let error = reader.next_chunk().unwrap_err();
    assert_eq!(reader.next_chunk().unwrap_err(), error);
}

#[test]
fn event_key_errors() {
    for (line, column, cause) in [
        ("", 1, "line ends inside"),
        ("[]", 1, "found an array"),
        ("{} {}", 4, "end of the line"),
        ("{\"a\":1", 7, "line ends inside"),
        ("{\"a\":\n1x}", 8, "`,` or `}`"),
    ] {
        let error = event_key(line.as_bytes(), &pointers()).unwrap_err();
        assert_eq!((error.line, error.column), (Some(1), Some(column)), "{error}");
        assert!(error.cause.contains(cause), "{error}");
    }
    let bad = Pointers { id: vec!["id".into()], time: vec![] };
    assert!(event_key(b"{}", &bad).is_err());
}
