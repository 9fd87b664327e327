//! Promise: real role definitions, policies, evidence and logs go into a vault and come back as they were:
//! records byte for byte, events equal but for white space, rows of a table equal as objects.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use support::Sandbox;
use trees::{assert_same, tree};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample")
}

/// A vault whose policy is `init`'s with the sample's sources and streams.
fn vault() -> Sandbox {
    let sandbox = Sandbox::new();
    let copied = sandbox.shell(&format!("cp -R '{0}/config' '{0}/evidence' '{0}/logs' .", sample().display()));
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let out = sandbox.backstop(&["init"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let policy = fs::read_to_string(sandbox.path("backstop.yaml")).unwrap();
    let part = fs::read_to_string(sample().join("sources-and-streams.yaml")).unwrap();
    assert!(policy.contains("sources: {}\n") && policy.contains("streams: {}\n"));
    sandbox.write("backstop.yaml", policy.replace("sources: {}\n", &part).replace("streams: {}\n", ""));
    sandbox
}

#[test]
fn records_and_evidence_come_back_byte_for_byte() {
    let sandbox = vault();
    let lines = sandbox.json(&["snapshot"], 0);
    assert_eq!(lines.len(), 2);
    for source in ["config", "evidence"] {
        let expected = tree(&sandbox.path(source), source == "evidence");
        let line = lines.iter().find(|l| l["source"] == source).unwrap();
        assert_eq!(line["entries"], expected.len());
        let to = format!("back-{source}");
        let report = sandbox.json(&["restore", "files", source, "--to", &to, "--identity", "keys/identity-1.txt"], 0).remove(0);
        assert_eq!(report["tree_sha256"], line["tree_sha256"]);
        assert_same(&tree(&sandbox.path(&to), source == "evidence"), &expected, source);
    }
    let report = sandbox.json(&["verify", "--deep", "--identity", "keys/identity-2.txt"], 0).remove(0);
    assert_eq!(report["findings"], Value::Array(vec![]));
}

/// JSON text without the white space between its tokens, and nothing else changed.
fn compact(text: &[u8]) -> String {
    let (mut out, mut inside, mut escaped) = (Vec::new(), false, false);
    for byte in text {
        if !inside && byte.is_ascii_whitespace() {
            continue;
        }
        out.push(*byte);
        (inside, escaped) = match byte {
            _ if escaped => (inside, false),
            b'\\' => (inside, inside),
            b'"' => (!inside, false),
            _ => (inside, false),
        };
    }
    String::from_utf8(out).unwrap()
}

/// What a file's events should be, by readers that this program does not use.
fn events(path: &Path) -> Vec<String> {
    let mut bytes = fs::read(path).unwrap();
    if path.extension().is_some_and(|e| e == "gz") {
        let packed = std::mem::take(&mut bytes);
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    let values = |values: Vec<Box<serde_json::value::RawValue>>| values.iter().map(|v| compact(v.get().as_bytes())).collect();
    match name {
        _ if name.ends_with(".csv") => {
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let mut table = csv::Reader::from_reader(text);
            let header = table.headers().unwrap().clone();
            let row = |row: csv::StringRecord| {
                let pairs = header.iter().zip(row.iter()).map(|(k, v)| (k.to_owned(), Value::from(v)));
                Value::Object(pairs.collect::<Map<_, _>>()).to_string()
            };
            table.records().map(|r| row(r.unwrap())).collect()
        }
        _ if name.ends_with(".graph.json") => {
            #[derive(serde::Deserialize)]
            struct Page {
                value: Vec<Box<serde_json::value::RawValue>>,
            }
            values(serde_json::from_slice::<Page>(&bytes).unwrap().value)
        }
        _ if name.ends_with(".array.json") => values(serde_json::from_slice(&bytes).unwrap()),
        _ => bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(compact).collect(),
    }
}

#[test]
fn logs_of_every_form_come_back() {
    let sandbox = vault();
    let streams: [(&str, &[&str], usize); 3] = [
        ("sign-ins", &["sign-ins.graph.json", "sign-ins.sentinel.csv"], 26),
        ("directory-audits", &["directory-audits.graph.json", "provisioning.graph.json"], 2),
        ("rule-tests", &["rule-tests.microsoft.ndjson", "rule-tests.azure-activity.ndjson.gz", "rule-tests.sign-ins.array.json"], 251),
    ];
    let all: usize = streams.iter().map(|s| s.1.len()).sum();
    assert_eq!(fs::read_dir(sample().join("logs")).unwrap().count(), all, "a log file of the sample is in no stream");
    for (stream, files, count) in streams {
        let paths: Vec<String> = files.iter().map(|f| format!("logs/{f}")).collect();
        let mut expected: Vec<String> = files.iter().flat_map(|f| events(&sample().join("logs").join(f))).collect();
        assert_eq!(expected.len(), count, "{stream}");
        let args: Vec<&str> = ["import", stream].into_iter().chain(paths.iter().map(String::as_str)).collect();
        let line = sandbox.json(&args, 0).remove(0);
        assert_eq!((&line["events"], &line["outcome"]), (&count.into(), &"complete".into()), "{line}");
        let back = sandbox.backstop(&[
            "restore",
            "logs",
            stream,
            "--from",
            "1970-01-01",
            "--to",
            "2200-01-01",
            "--all-versions",
            "--identity",
            "keys/identity-1.txt",
        ]);
        assert_eq!(back.code, 0, "{}", back.stderr);
        // Rows of a table have no spelling of their own: they are compared as objects.
        let is_row = |line: &str| line.contains("\"CreatedDateTime [UTC]\"");
        let text = |line: &str| if is_row(line) { serde_json::from_str::<Value>(line).unwrap().to_string() } else { line.to_owned() };
        let mut found: Vec<String> = back.stdout.lines().map(text).collect();
        found.sort();
        expected.sort();
        assert_eq!(found.len(), expected.len(), "{stream}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{stream}");
        }
    }
    assert_eq!(sandbox.json(&["verify"], 0)[0]["findings"], Value::Array(vec![]));
}
