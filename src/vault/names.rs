//! Names: the only place that formats or takes apart the name of an object of the vault.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use crate::store::Sha256;

/// Suffix of a sealed tar.
const TAR: &str = ".tar.zst.age";
/// Suffix of a sealed NDJSON stream.
const NDJSON: &str = ".ndjson.zst.age";
/// The vault's description.
pub const VAULT_JSON: &str = "attestations/VAULT.json";
/// How to restore with ordinary tools.
pub const RECOVERY_MD: &str = "attestations/RECOVERY.md";
/// Below `evidence/`: what the vault keeps of itself.
const OWN_RECORDS: &str = "backstop";
/// Where the bundles of envelopes lie.
pub const BUNDLES: &str = "attestations/bundles/";
/// Where the policies lie.
pub const POLICIES: &str = "attestations/policies/";
/// Where objects lie that were put only to see what the store does to them; they are no part of the vault.
pub const CANARIES: &str = "attestations/canaries/";
/// Where things that must outlive their first lock are written again each year.
pub const RESTATED: &str = "attestations/restated/";

/// The four containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// Records of configuration.
    #[default]
    ConfigSnapshots,
    /// Compliance evidence.
    Evidence,
    /// Access-log events.
    AuditLogs,
    /// Signed statements, readable without a key.
    Attestations,
}

impl Container {
    /// All four, in order of name.
    pub const ALL: [Self; 4] = [Self::Attestations, Self::AuditLogs, Self::ConfigSnapshots, Self::Evidence];

    /// The logical name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigSnapshots => "config-snapshots",
            Self::Evidence => "evidence",
            Self::AuditLogs => "audit-logs",
            Self::Attestations => "attestations",
        }
    }

    /// The container that an object's name begins with.
    pub fn of(name: &str) -> Option<Self> {
        let container = name.split_once('/')?.0;
        Self::ALL.into_iter().find(|c| c.as_str() == container)
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a name of its kind.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadName {
    text: String,
    expected: &'static str,
}

/// The name of a source, stream or job: `[a-z0-9-]{1,40}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortName(String);

impl ShortName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShortName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadName { text: text.to_owned(), expected: "a name of 1 to 40 of a-z, 0-9 and -" })
    }
}

/// A chain of attestations: `snapshot.<source>`, `export.<stream>`, `checkpoint`, `vault` and the like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainName(String);

impl ChainName {
    /// The chain of a source's snapshots.
    pub fn snapshot(source: &ShortName) -> Self {
        Self(format!("snapshot.{}", source.0))
    }

    /// The chain of a stream's exports and imports.
    pub fn export(stream: &ShortName) -> Self {
        Self(format!("export.{}", stream.0))
    }

    /// The chain of checkpoints.
    pub fn checkpoint() -> Self {
        Self("checkpoint".into())
    }

    /// The drills.
    pub fn drill() -> Self {
        Self("drill".into())
    }

    /// The restore tests.
    pub fn restore_test() -> Self {
        Self("restore-test".into())
    }

    /// The vault's own chain: genesis, rotations, holds, dispositions, heals, promotions.
    pub fn vault() -> Self {
        Self("vault".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The source, of a chain of snapshots.
    pub fn source(&self) -> Option<ShortName> {
        self.0.strip_prefix("snapshot.")?.parse().ok()
    }

    /// The stream, of a chain of exports.
    pub fn stream(&self) -> Option<ShortName> {
        self.0.strip_prefix("export.")?.parse().ok()
    }

    /// The folder of the chain's envelopes.
    pub fn folder(&self) -> String {
        format!("attestations/{}/", self.0)
    }

    /// The name of one envelope.
    pub fn envelope(&self, sequence: u64) -> String {
        format!("attestations/{}/{sequence:010}.json", self.0)
    }

    /// The number that an object's name in this chain's folder says, if it is spelled as it must be.
    pub fn sequence_of(&self, name: &str) -> Option<u64> {
        let number: u64 = name.strip_prefix(&self.folder())?.strip_suffix(".json")?.parse().ok()?;
        (number > 0 && self.envelope(number) == name).then_some(number)
    }

    /// The chain in whose folder an object lies.
    pub fn of_object(name: &str) -> Option<Self> {
        let (folder, _) = name.strip_prefix("attestations/")?.split_once('/')?;
        folder.parse().ok()
    }
}

impl FromStr for ChainName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let single = ["restore-test", "drill", "failover", "checkpoint", "vault"];
        let named =
            text.split_once('.').is_some_and(|(kind, name)| ["snapshot", "export"].contains(&kind) && name.parse::<ShortName>().is_ok());
        if named || single.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadName { text: text.to_owned(), expected: "the name of a chain, such as snapshot.entra or checkpoint" })
    }
}

/// One execution of a job: a UUIDv7 in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// A new run at an instant of the store's clock.
    pub fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
    }

    /// As a number.
    pub fn number(self) -> u128 {
        self.0.as_u128()
    }

    /// Of a number.
    pub fn of_number(number: u128) -> Option<Self> {
        let id = uuid::Uuid::from_u128(number);
        (id.get_version_num() == 7).then_some(Self(id))
    }
}

impl FromStr for RunId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName { text: text.to_owned(), expected: "a run: a UUID version 7 in lower case" };
        let id = uuid::Uuid::try_parse(text).map_err(|_| bad())?;
        if id.get_version_num() != 7 || id.as_hyphenated().to_string() != text {
            return Err(bad());
        }
        Ok(Self(id))
    }
}

macro_rules! text_of {
    ($($kind:ty => |$it:ident| $text:expr),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $it = self;
                write!(f, "{}", $text)
            }
        }
        impl TryFrom<String> for $kind {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(value: $kind) -> String {
                value.to_string()
            }
        }
    )*};
}
text_of!(ShortName => |it| it.0, ChainName => |it| it.0, RunId => |it| it.0.as_hyphenated());

/// The folder of everything that one run of a snapshot wrote.
pub fn run_folder(container: Container, source: &ShortName, epoch: &Epoch, run: RunId) -> String {
    format!("{container}/{source}/{epoch}/{run}/")
}

/// The folder of one epoch of a source.
pub fn epoch_folder(container: Container, source: &ShortName, epoch: &Epoch) -> String {
    format!("{container}/{source}/{epoch}/")
}

/// A segment of a snapshot, counted from 0.
pub fn segment(container: Container, source: &ShortName, epoch: &Epoch, run: RunId, number: usize) -> String {
    format!("{}segment-{number:04}{TAR}", run_folder(container, source, epoch, run))
}

/// The manifest of a snapshot.
pub fn manifest(container: Container, source: &ShortName, epoch: &Epoch, run: RunId) -> String {
    format!("{}manifest{NDJSON}", run_folder(container, source, epoch, run))
}

/// The run in whose folder an object of a snapshot lies.
pub fn run_of(name: &str) -> Option<RunId> {
    name.rsplit('/').nth(1)?.parse().ok()
}

/// Whether an object is a manifest.
pub fn is_manifest(name: &str) -> bool {
    name.ends_with(&format!("/manifest{NDJSON}"))
}

/// Whether an object is a sealed tar.
pub fn is_segment(name: &str) -> bool {
    name.ends_with(TAR)
}

/// An object of a stream's events, stored under the day of `day`.
pub fn log_object(stream: &ShortName, day: Timestamp, run: RunId, number: usize) -> String {
    let day = day.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
    format!("audit-logs/{stream}/{day}/{run}-{number:04}{NDJSON}")
}

/// An object of events that are older than the window that found them, stored under the window's day.
pub fn late_log_object(stream: &ShortName, day: Timestamp, run: RunId, number: usize) -> String {
    let day = day.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
    format!("audit-logs/{stream}/{day}/{run}-late-{number:04}{NDJSON}")
}

/// Whether an object holds a stream's events.
pub fn is_log_object(name: &str) -> bool {
    Container::of(name) == Some(Container::AuditLogs)
}

/// Whether an object holds events that are older than the window that found them.
pub fn is_late_log_object(name: &str) -> bool {
    is_log_object(name) && name.contains("-late-")
}

/// An object that is put only to see what the store does to it.
pub fn canary(run: RunId) -> String {
    format!("{CANARIES}{run}")
}

/// The bundle of a checkpoint.
pub fn bundle(day: Timestamp, run: RunId) -> String {
    format!("{BUNDLES}{}-{run}.ndjson.zst", day.to_zoned(TimeZone::UTC).date())
}

/// A policy by its digest.
pub fn policy(sha256: &Sha256) -> String {
    format!("{POLICIES}{sha256}.yaml")
}

/// The record of what a disposition destroyed.
pub fn certificate(epoch: &Epoch, run: RunId) -> String {
    own_record(epoch, run, "certificate.md")
}

/// The record of a restore test.
pub fn test_record(epoch: &Epoch, run: RunId) -> String {
    own_record(epoch, run, "restore-test.json")
}

/// The record of a drill.
pub fn drill_record(epoch: &Epoch, run: RunId) -> String {
    own_record(epoch, run, "drill.json")
}

fn own_record(epoch: &Epoch, run: RunId, file: &str) -> String {
    format!("{}/{OWN_RECORDS}/{epoch}/{run}/{file}.zst.age", Container::Evidence)
}

/// The folder whose objects are reviewed, held and disposed of together: an epoch of a source or a month of a
/// stream. None of an object that is kept for ever: attestations, and the vault's own records.
pub fn period_folder(name: &str) -> Option<&str> {
    let parts = match Container::of(name)? {
        Container::Attestations => return None,
        Container::AuditLogs => 4,
        Container::Evidence if name.split('/').nth(1) == Some(OWN_RECORDS) => return None,
        Container::ConfigSnapshots | Container::Evidence => 3,
    };
    let (end, _) = name.match_indices('/').nth(parts - 1)?;
    Some(&name[..=end])
}

/// The chain and the period of a folder that [`period_folder`] gave: `snapshot.entra` and `2026-11`.
pub fn period_of(folder: &str) -> Option<(ChainName, String)> {
    let parts: Vec<&str> = folder.trim_end_matches('/').split('/').collect();
    let name: ShortName = parts.get(1)?.parse().ok()?;
    match (Container::of(folder)?, parts.as_slice()) {
        (Container::AuditLogs, [_, _, year, month]) => Some((ChainName::export(&name), format!("{year}-{month}"))),
        (Container::ConfigSnapshots | Container::Evidence, [_, _, epoch]) => Some((ChainName::snapshot(&name), (*epoch).to_owned())),
        _ => None,
    }
}

/// The name under which an object of `attestations/` is written again in a year.
pub fn restated(name: &str, year: i16) -> String {
    format!("{RESTATED}{year}/{}", name.trim_start_matches("attestations/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_places_and_grow_past_them() {
        let chain = ChainName::checkpoint();
        assert_eq!(chain.envelope(42), "attestations/checkpoint/0000000042.json");
        assert_eq!(chain.envelope(12_345_678_901), "attestations/checkpoint/12345678901.json");
        for n in [1, 42, 9_999_999_999, 12_345_678_901] {
            assert_eq!(chain.sequence_of(&chain.envelope(n)), Some(n));
        }
        for odd in [
            "attestations/checkpoint/42.json",
            "attestations/checkpoint/00000000042.json",
            "attestations/checkpoint/0000000000.json",
            "attestations/checkpoint/+000000042.json",
        ] {
            assert_eq!(chain.sequence_of(odd), None, "{odd}");
        }
    }

    #[test]
    fn runs_are_version_7_in_lower_case() {
        let run = RunId::new("2026-11-23T08:00:00.123456789Z".parse().unwrap());
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        assert!(run.to_string().to_uppercase().parse::<RunId>().is_err());
        assert!("67e55044-10b1-426f-9247-bb680e5fe0c8".parse::<RunId>().is_err());
    }

    #[test]
    fn periods_are_epochs_and_months() {
        let of = |name: &str| period_folder(name).and_then(period_of).map(|(c, p)| format!("{c} {p}"));
        let run = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(of(&format!("config-snapshots/entra/2026-11/{run}/segment-0000.tar.zst.age")).unwrap(), "snapshot.entra 2026-11");
        assert_eq!(of(&format!("evidence/proof/2026-Q4/{run}/manifest.ndjson.zst.age")).unwrap(), "snapshot.proof 2026-Q4");
        assert_eq!(of(&format!("audit-logs/log/2026/11/23/{run}-0000.ndjson.zst.age")).unwrap(), "export.log 2026-11");
        for kept in ["attestations/vault/0000000001.json", "evidence/backstop/2033-12/x/certificate.md.zst.age", "audit-logs/log/x", "odd"]
        {
            assert_eq!(of(kept), None, "{kept}");
        }
    }

    #[test]
    fn chains_and_names() {
        assert!("snapshot.entra".parse::<ChainName>().is_ok());
        for bad in ["snapshot", "snapshot.", "snapshot.Entra", "export.a/b", "bundles", ""] {
            assert!(bad.parse::<ChainName>().is_err(), "{bad}");
        }
        assert_eq!(restated(VAULT_JSON, 2030), "attestations/restated/2030/VAULT.json");
    }
}
