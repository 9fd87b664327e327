//! Whole files through reader and `normalise`: formats, packing, fidelity.

use std::io::{Cursor, Write};

use super::*;

pub(super) struct Import {
    pub(super) format: &'static str,
    pub(super) lines: String,
    pub(super) total: Batch,
}

pub(super) fn pointers() -> Pointers {
    Pointers::new(vec!["/id".into()], vec!["/time".into()]).unwrap()
}

/// Runs a file through; `total` has the sums of all batches.
pub(super) fn import(file: impl AsRef<[u8]>, format: Format, chunk_bytes: usize) -> Result<Import, ImportError> {
    let mut reader = ChunkReader::open(Cursor::new(file.as_ref().to_vec()), format, chunk_bytes)?;
    let (mut lines, mut total) = (Vec::new(), Batch::default());
    while let Some(chunk) = reader.next_chunk()? {
        assert!(chunk.data.ends_with(b"\n"));
        let batch = normalise(&chunk, &pointers())?;
        assert_eq!(batch.events, batch.ndjson.iter().filter(|b| **b == b'\n').count() as u64);
        assert!(batch.events > 0 && batch.ndjson.ends_with(b"\n"));
        lines.extend_from_slice(&batch.ndjson);
        total.events += batch.events;
        total.untimed += batch.untimed;
        total.without_id += batch.without_id;
        total.first = total.first.into_iter().chain(batch.first).min();
        total.last = total.last.into_iter().chain(batch.last).max();
    }
    Ok(Import { format: reader.format(), lines: String::from_utf8(lines).unwrap(), total })
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

const EVENTS: &str = "{\"id\":\"a\",\"n\":1.50,\"time\":\"2024-01-02T03:04:05Z\"}\n\
    {\"id\":7,\"n\":{\"x\":[1,\"} {\"]},\"time\":1700000000}\n\
    {\"id\":null,\"s\":\"ü \\u00e4\\\"\"}\n";

const NDJSON: &str = "\u{feff}\n {\"id\": \"a\", \"n\": 1.50, \"time\": \"2024-01-02T03:04:05Z\"}\r\n\
    \r\n\t{\"id\":7 ,\"n\":{\"x\":[ 1,\"} {\"]},\"time\":1700000000} \n   \n\
    {\"id\":null,\"s\":\"ü \\u00e4\\\"\"}";

const PRETTY: &str = "{\n  \"id\": \"a\",\n  \"n\": 1.50,\r\n  \"time\": \"2024-01-02T03:04:05Z\"\n}\n\
    {\"id\":7,\"n\":{\"x\":[1,\"} {\"]},\"time\":1700000000} {\"id\":null,\n\"s\":\"ü \\u00e4\\\"\"}\n\n";

const ARRAY: &str = "\n[{\"id\": \"a\", \"n\": 1.50, \"time\": \"2024-01-02T03:04:05Z\"},\n\
    {\"id\":7,\"n\":{\n\"x\":[1,\"} {\"]},\"time\":1700000000}\r\n, {\"id\":null,\"s\":\"ü \\u00e4\\\"\"}\n]\n";

const PAGE: &str = "{\"@odata.context\": \"https://x/$metadata#a\", \"value\": [\
    {\"id\": \"a\", \"n\": 1.50, \"time\": \"2024-01-02T03:04:05Z\"},\n\
    {\"id\":7,\"n\":{\"x\":[1,\"} {\"]},\"time\":1700000000}],\"@odata.nextLink\":\"b\",\"n\":12}\n\
    {\"value\": [{\"id\":null,\"s\":\"ü \\u00e4\\\"\"}], \"@odata.context\": 1}";

#[test]
fn all_json_layouts_and_packings() {
    for (name, text) in [("ndjson", NDJSON), ("ndjson", PRETTY), ("json_array", ARRAY), ("graph_page", PAGE)] {
        let (front, back) = text.as_bytes().split_at(60);
        let skippable = [b"\x50\x2a\x4d\x18\x02\0\0\0ab".as_slice(), &zstd(front)].concat();
        for file in [
            text.as_bytes().to_vec(),
            gzip(text.as_bytes()),
            [gzip(front), gzip(b""), gzip(back)].concat(),
            zstd(text.as_bytes()),
            [skippable, zstd(back)].concat(),
        ] {
            for chunk_bytes in [0, 1, 10, 60, 100, 200, 1 << 20, usize::MAX] {
                let import = import(&file, Format::Auto, chunk_bytes).unwrap();
                assert_eq!((import.format, import.lines.as_str()), (name, EVENTS));
                let total = import.total;
                assert_eq!((total.events, total.untimed, total.without_id), (3, 1, 1));
                assert_eq!(total.first.unwrap().to_string(), "2023-11-14T22:13:20Z");
                assert_eq!(total.last.unwrap().to_string(), "2024-01-02T03:04:05Z");
            }
        }
    }
}

#[test]
fn csv_rows_become_objects() {
    let text = "\u{feff}\r\nid, time ,\"a \"\"b\"\"\"\r\n\
        x,\"1/2/2024, 3:04:05.5 PM\",\"line\r\nbreak\"\r\n\r\n \n\
        ,,q\"uo\\te\ny,no,\"\"\nz,\"2024-01-01 00:00:00\",\"\"\"\"";
    let expected = "{\"id\":\"x\",\"time\":\"1/2/2024, 3:04:05.5 PM\",\"a \\\"b\\\"\":\"line\\r\\nbreak\"}\n\
        {\"id\":\"\",\"time\":\"\",\"a \\\"b\\\"\":\"q\\\"uo\\\\te\"}\n\
        {\"id\":\"y\",\"time\":\"no\",\"a \\\"b\\\"\":\"\"}\n\
        {\"id\":\"z\",\"time\":\"2024-01-01 00:00:00\",\"a \\\"b\\\"\":\"\\\"\"}\n";
    for file in [text.as_bytes().to_vec(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
        for (format, chunk_bytes) in [(Format::Auto, 1), (Format::Csv, 90), (Format::Auto, 1 << 20)] {
            let import = import(&file, format, chunk_bytes).unwrap();
            assert_eq!((import.format, import.lines.as_str()), ("csv", expected));
            let total = import.total;
            assert_eq!((total.events, total.untimed, total.without_id), (4, 2, 1));
            assert_eq!(total.last.unwrap().to_string(), "2024-01-02T15:04:05.5Z");
        }
    }
}

#[test]
fn files_without_events() {
    for file in ["", "\u{feff}", " \n\r\n\t", "[]", " [ \n ] \n", "a,b\n", "a,b"] {
        assert_eq!(import(file, Format::Auto, 10).unwrap().total, Batch::default(), "{file:?}");
        assert!(import(gzip(file.as_bytes()), Format::Auto, 10).unwrap().lines.is_empty());
        assert!(import(zstd(file.as_bytes()), Format::Auto, 10).unwrap().lines.is_empty());
    }
    let page = r#"{"@odata.context":"x","value":[]}"#;
    assert!(import(page, Format::Auto, 10).unwrap().lines.is_empty());
    for format in [Format::Ndjson, Format::JsonArray, Format::Csv] {
        assert!(import(" \n", format, 10).unwrap().lines.is_empty());
    }
}

#[test]
fn objects_that_only_look_like_pages_are_events() {
    for event in [
        r#"{"@odata.context":"x","id":"y"}"#,
        r#"{"@odata.context":"x","value":{"id":"y"}}"#,
        r#"{"@odata.context":"x","value":["y"]}"#,
        r#"{"value":[{"id":"y"}]}"#,
        r#"{"o":{"@odata.context":"x","value":[{}]}}"#,
        "{}",
    ] {
        let import = import(format!("{event}\n{event}"), Format::Auto, 10).unwrap();
        assert_eq!(import.lines, format!("{event}\n{event}\n"));
    }
    // Asked for, a page is one event.
    let page = r#"{"@odata.context":"x","value":[{},{}]}"#;
    assert_eq!(import(page, Format::Auto, 10).unwrap().lines, "{}\n{}\n");
    assert_eq!(import(page, Format::Ndjson, 10).unwrap().lines, format!("{page}\n"));
}

#[test]
fn format_names() {
    for (name, format) in [("auto", Format::Auto), ("ndjson", Format::Ndjson), ("json_array", Format::JsonArray), ("csv", Format::Csv)] {
        assert_eq!(name.parse::<Format>().unwrap(), format);
        assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{name}\""));
    }
    assert!("CSV".parse::<Format>().is_err());
}

#[test]
fn first_line_counts_lines_of_the_file() {
    let line = "{\"a\": [1,\n2]}\n\n{}\n{}\n{}\n";
    let mut reader = ChunkReader::open(line.as_bytes(), Format::Auto, 6).unwrap();
    let mut starts = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        let blank = chunk.data.iter().take_while(|b| **b == b'\n').count() as u64;
        starts.push(chunk.first_line + blank);
    }
    // The last two lines are one chunk.
    assert_eq!(starts, [1, 4, 5]);
}

#[test]
fn event_keys() {
    let pointers = Pointers::new(vec!["/id".into()], vec!["/t".into(), "/p/0".into()]).unwrap();
    let key = |line: &str| event_key(line.as_bytes(), &pointers).unwrap();
    let both = key("{\"id\":\"\\u0041\\n\",\"p\":[\"4\\/19\\/2021, 12:13:19 PM\"]}\n");
    assert_eq!(both.id.as_deref(), Some("A\n"));
    assert_eq!(both.time.unwrap().to_string(), "2021-04-19T12:13:19Z");
    assert_eq!(key(r#"{"id":1.50}"#).id.as_deref(), Some("1.50"));
    assert_eq!(key(r#"{"id":false}"#).id.as_deref(), Some("false"));
    assert_eq!(key(r#"{"t":1700000000.25}"#).time.unwrap().as_millisecond(), 1_700_000_000_250);
    assert_eq!(key(r#"{"id":"","t":"soon","p":["2024-01-01T00:00:00Z"]}"#), EventKey::default());
    assert_eq!(key(r#"{"id":{},"t":true}"#), EventKey::default());
}
