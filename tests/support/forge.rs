//! What an intruder forges: envelopes signed with any key, objects sealed by hand, and their lock files.
//!
//! Everything is made with the library's own types, so that it is right in every respect but the one that a
//! test is about. Nothing here goes through the store: files are put into the vault's directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use backstop::store::{EnforcedBy, LockMode, LockState, Sha256};
use backstop::vault::attestation::{Kind, ObjectRef, Statement, Subject, SubjectDigest};
use backstop::vault::dsse::Envelope;
use backstop::vault::keys::{Recipients, Signer, from_base64};
use backstop::vault::manifest::{Line, ManifestReader, TreeHasher};
use backstop::vault::names::RunId;
use backstop::vault::seal::{Frames, Tuning, padme};
use backstop::vault::segment;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Sandbox;

/// A vault in a directory of a sandbox, and the keys that `init` made beside it.
pub struct Forge<'a> {
    sandbox: &'a Sandbox,
    home: String,
}

impl<'a> Forge<'a> {
    /// `home` is the directory of the policy, relative to the sandbox.
    pub fn new(sandbox: &'a Sandbox, home: &str) -> Self {
        Self { sandbox, home: home.to_owned() }
    }

    /// A file's name relative to the sandbox, from an object's name.
    pub fn file(&self, object: &str) -> String {
        format!("{}/vault/{object}", self.home)
    }

    pub fn path(&self, object: &str) -> PathBuf {
        self.sandbox.path(&self.file(object))
    }

    /// The lock file beside an object, as a name of the same kind.
    pub fn lock_of(object: &str) -> String {
        let (folder, name) = object.rsplit_once('/').unwrap();
        format!("{folder}/.{name}.lock")
    }

    pub fn signer(&self, role: &str) -> Signer {
        Signer::load(&self.sandbox.path(&format!("{}/keys/{role}.key", self.home))).unwrap()
    }

    pub fn recipients(&self) -> Recipients {
        let list = &self.statement("vault", 1).predicate.details["recipients_list"];
        Recipients::parse(&serde_json::from_value::<Vec<String>>(list.clone()).unwrap()).unwrap()
    }

    pub fn bytes(&self, object: &str) -> Vec<u8> {
        fs::read(self.path(object)).unwrap_or_else(|e| panic!("{object}: {e}"))
    }

    pub fn statement(&self, chain: &str, sequence: u64) -> Statement {
        let envelope = Envelope::parse(&self.bytes(&envelope_name(chain, sequence))).unwrap();
        Statement::parse(&from_base64(&envelope.payload).unwrap()).unwrap()
    }

    /// The highest number in a chain's folder.
    pub fn head(&self, chain: &str) -> u64 {
        let folder = fs::read_dir(self.path(&format!("attestations/{chain}"))).unwrap();
        let numbers = folder.flatten().filter_map(|e| e.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        numbers.max().unwrap()
    }

    /// What would follow a chain's head, with the head's objects and details and a run of its own.
    pub fn successor(&self, chain: &str) -> Statement {
        let head = self.head(chain);
        let mut next = self.statement(chain, head);
        let now = Timestamp::now();
        let predicate = &mut next.predicate;
        let before = std::mem::replace(&mut predicate.run, RunId::new(now));
        predicate.sequence = head + 1;
        predicate.previous = Some(Sha256::of(&self.bytes(&envelope_name(chain, head))));
        predicate.skipped = Vec::new();
        (predicate.started, predicate.finished) = (now, now);
        if next.kind == Kind::Snapshot {
            predicate.details.insert("previous_snapshot".into(), json!(before));
            let runs = predicate.details["segments_from"].as_array_mut().unwrap();
            runs.push(json!(predicate.run));
        }
        next
    }

    /// Signs a statement and puts it where it says that it belongs.
    pub fn commit(&self, statement: &Statement, signer: &Signer) -> String {
        let bytes = Envelope::sign(&statement.to_bytes().unwrap(), signer);
        let name = envelope_name(statement.predicate.chain.as_str(), statement.predicate.sequence);
        self.put(&name, &bytes);
        name
    }

    /// Puts an object into the vault, with a lock like its neighbour's.
    pub fn put(&self, object: &str, bytes: &[u8]) -> ObjectRef {
        let path = self.path(object);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.exists() {
            self.sandbox.unlock(&self.file(object));
        }
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let sha256 = Sha256::of(bytes);
        let mut lock: Value = serde_json::from_slice(&self.bytes(&Self::lock_of(&self.neighbour(object)))).unwrap();
        lock["sha256"] = json!(sha256);
        lock["size"] = json!(bytes.len());
        lock["enforced_by"] = json!("advisory");
        let beside = self.path(&Self::lock_of(object));
        let _ = fs::remove_file(&beside);
        fs::write(&beside, lock.to_string()).unwrap();
        let until = lock["until"].as_str().map(|until| until.parse().unwrap());
        let state = LockState { mode: LockMode::Locked, until, enforced_by: EnforcedBy::Advisory, container: None };
        ObjectRef { name: object.to_owned(), sha256, size: bytes.len() as u64, version: None, lock: state }
    }

    /// An object whose lock is right for another one.
    fn neighbour(&self, object: &str) -> String {
        let container = object.split('/').next().unwrap();
        match container {
            "attestations" => self.statement("vault", 1).predicate.objects[0].name.clone(),
            "audit-logs" => self.statement("export.log", 1).predicate.objects[0].name.clone(),
            _ => self.statement("snapshot.tree", 1).predicate.objects[0].name.clone(),
        }
    }

    /// Signs, as the agent, an export of one object that was sealed by hand.
    pub fn commit_export(&self, sealed: &[u8], events: u64) -> String {
        self.commit_export_of(sealed, events, Some(["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"]))
    }

    /// The same, with the first and the last time in it.
    pub fn commit_export_of(&self, sealed: &[u8], events: u64, times: Option<[&str; 2]>) -> String {
        let mut next = self.successor("export.log");
        let folder = next.predicate.objects[0].name.rsplit_once('/').unwrap().0.to_owned();
        let object = self.put(&format!("{folder}/{}-0000.ndjson.zst.age", next.predicate.run), sealed);
        let span = json!({ "name": object.name, "first": times.map(|t| t[0]), "last": times.map(|t| t[1]), "count": events });
        next.predicate.details.insert("events".into(), json!(events));
        next.predicate.details.insert("spans".into(), json!([span]));
        let name = object.name.clone();
        set_objects(&mut next, vec![object]);
        self.commit(&next, &self.signer("agent"));
        name
    }
}

/// Name of the envelope at a number of a chain.
pub fn envelope_name(chain: &str, sequence: u64) -> String {
    format!("attestations/{chain}/{sequence:010}.json")
}

/// Makes a statement name other objects.
pub fn set_objects(statement: &mut Statement, objects: Vec<ObjectRef>) {
    statement.subject = objects.iter().map(|o| Subject { name: o.name.clone(), digest: SubjectDigest { sha256: o.sha256 } }).collect();
    statement.predicate.objects = objects;
}

/// Seals payloads, each as one frame and that frame so many times: how a small object unpacks to a large one.
pub fn seal_repeated(parts: &[(&[u8], usize)], recipients: &Recipients) -> Vec<u8> {
    let mut frames = Frames::new(Tuning::Level(3)).unwrap();
    let mut plain = Vec::new();
    for (payload, times) in parts {
        plain.extend(frames.frame(payload).unwrap().repeat(*times));
    }
    seal_frames(plain, recipients)
}

/// Pads zstd frames as the format demands, and seals them.
pub fn seal_frames(mut plain: Vec<u8>, recipients: &Recipients) -> Vec<u8> {
    let total = usize::try_from(padme(plain.len() as u64 + 8)).unwrap();
    let fill = u32::try_from(total - plain.len() - 8).unwrap();
    plain.extend(0x184D_2A50_u32.to_le_bytes());
    plain.extend(fill.to_le_bytes());
    plain.resize(total, 0);
    let mut sealed = Vec::new();
    let mut out = recipients.encryptor().unwrap().wrap_output(&mut sealed).unwrap();
    out.write_all(&plain).unwrap();
    out.finish().unwrap();
    sealed
}

/// A base snapshot of the source `tree`, made by hand and signed with the agent's stolen key.
#[derive(Default)]
pub struct Poison {
    /// The first segment's tar, without its end.
    pub tar: Vec<u8>,
    /// Further segments, sealed. They have the numbers 1, 2, …
    pub segments: Vec<Vec<u8>>,
    /// Paths and lines of the manifest.
    pub lines: Vec<(String, String)>,
    /// Keeps the lines in the order in which they were added.
    pub unsorted: bool,
    /// The manifest's stored bytes, in place of those made from the lines.
    pub manifest: Option<Vec<u8>>,
    /// What follows the manifest's lines, each so many times.
    pub tail: Vec<(Vec<u8>, usize)>,
    /// The number of lines that the manifest's header says.
    pub entries: Option<u64>,
    /// Stores the segments, but attests only the manifest.
    pub hide_segments: bool,
    /// Takes the place of the run in the manifest's header.
    pub foreign_run: Option<RunId>,
}

/// What was committed.
pub struct Poisoned {
    pub run: String,
    pub manifest: String,
    pub segments: Vec<String>,
}

impl Poison {
    /// With records before and after whatever is added.
    pub fn among(innocent: &[(&str, &str)]) -> Self {
        let mut poison = Self::default();
        for (path, content) in innocent {
            poison.file(path, content.as_bytes());
        }
        poison
    }

    /// A record as the agent would write it, were the path a good one.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.member(path, tar::EntryType::Regular, content);
        self.line(path, file_line(path, content, 0));
    }

    /// A member of the first segment.
    pub fn member(&mut self, name: &str, kind: tar::EntryType, content: &[u8]) {
        let at = self.tar.len();
        segment::append_header(&mut self.tar, name, content.len() as u64);
        // The last block is the member's own header; a pax header may stand before it.
        let block = self.tar.len() - 512;
        assert!(block >= at);
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&self.tar[block..]);
        header.set_entry_type(kind);
        if !kind.is_file() {
            header.set_link_name("../../canary").unwrap();
        }
        header.set_cksum();
        self.tar[block..].copy_from_slice(header.as_bytes());
        self.tar.extend_from_slice(content);
        segment::pad(&mut self.tar, content.len());
    }

    pub fn line(&mut self, path: &str, line: impl ToString) {
        self.lines.push((path.to_owned(), line.to_string()));
    }

    fn header(&self, run: RunId, previous: &Value, table: &[ObjectRef], tree: Sha256, total: u64) -> Vec<u8> {
        let segments: Vec<Value> = table.iter().map(|o| json!({ "name": o.name, "sha256": o.sha256 })).collect();
        let header = json!({
            "backstop": "manifest/1", "kind": "base", "source": "tree", "run": self.foreign_run.unwrap_or(run), "base": run,
            "previous_snapshot": previous, "entries": self.entries.unwrap_or(self.lines.len() as u64), "total_entries": total, "tree_sha256": tree,
            "collections": [], "segments": segments,
        });
        format!("{header}\n").into_bytes()
    }

    pub fn commit(mut self, forge: &Forge<'_>) -> Poisoned {
        let recipients = forge.recipients();
        let mut statement = forge.successor("snapshot.tree");
        let run = statement.predicate.run;
        let previous = statement.predicate.details["previous_snapshot"].clone();
        let epoch = statement.predicate.objects[0].name.rsplitn(3, '/').nth(2).unwrap().to_owned();
        segment::append_end(&mut self.tar);
        let mut sealed = vec![seal_repeated(&[(&self.tar, 1)], &recipients)];
        sealed.append(&mut self.segments);
        let put = |(n, bytes): (usize, &Vec<u8>)| forge.put(&format!("{epoch}/{run}/segment-{n:04}.tar.zst.age"), bytes);
        let table: Vec<ObjectRef> = sealed.iter().enumerate().map(put).collect();
        if !self.unsorted {
            self.lines.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let body: Vec<u8> = self.lines.iter().flat_map(|(_, line)| [line.as_bytes(), b"\n"].concat()).collect();
        // The digest is that of what a reader accepts, so that it gives nothing away.
        let (tree, total) = accepted(&[self.header(run, &previous, &table, Sha256([0; 32]), 0), body.clone()].concat());
        let header = self.header(run, &previous, &table, tree, total);
        let manifest = match self.manifest.take() {
            Some(bytes) => bytes,
            None => {
                let tail = self.tail.iter().map(|(part, times)| (part.as_slice(), *times));
                let parts: Vec<(&[u8], usize)> = [(header.as_slice(), 1), (body.as_slice(), 1)].into_iter().chain(tail).collect();
                seal_repeated(&parts, &recipients)
            }
        };
        let manifest = forge.put(&format!("{epoch}/{run}/manifest.ndjson.zst.age"), &manifest);
        let poisoned =
            Poisoned { run: run.to_string(), manifest: manifest.name.clone(), segments: table.iter().map(|o| o.name.clone()).collect() };
        let details = &mut statement.predicate.details;
        for (name, value) in [
            ("snapshot_kind", json!("base")),
            ("base", json!(run)),
            ("segments_from", json!([run])),
            ("tree_sha256", json!(tree)),
            ("entries", json!(total)),
        ] {
            details.insert(name.to_owned(), value);
        }
        let mut objects = if self.hide_segments { Vec::new() } else { table };
        objects.push(manifest);
        set_objects(&mut statement, objects);
        forge.commit(&statement, &forge.signer("agent"));
        poisoned
    }
}

/// The line of a file whose bytes lie in a member of the same name.
pub fn file_line(path: &str, content: &[u8], segment: u32) -> Value {
    json!({ "path": path, "type": "file", "sha256": Sha256::of(content), "size": content.len(), "segment": segment })
}

fn accepted(manifest: &[u8]) -> (Sha256, u64) {
    let mut reader = ManifestReader::new(manifest).unwrap();
    let mut tree = TreeHasher::default();
    while let Ok(Some(line)) = reader.next_line() {
        if let Ok(Line::Entry(entry)) = line {
            tree.add(&entry);
        }
    }
    let total = tree.entries();
    (tree.finish(), total)
}
