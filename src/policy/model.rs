//! The policy's model: what may stand in the file, and nothing else.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::agent::AgentPolicy;
use super::azure::AzureVault;
use super::notify::NotifyPolicy;
use super::problem::{Problem, holds_secret, nearest};
use super::tenant::{ArmPolicy, GraphPolicy, LogPolicy};
use crate::source::import::Format;
use crate::store::LockMode;
use crate::vault::attestation::RetentionBy;
use crate::vault::epoch::{EpochKind, Grace, Retention};
use crate::vault::names::Container;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The version of the policy's form: 1.
    #[schemars(with = "u32")]
    pub version: Spanned<u32>,
    /// The time zone of schedules; UTC unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Spanned<String>>,
    /// What the jobs must achieve.
    #[serde(default)]
    pub objectives: Objectives,
    /// Where the vault is and how it locks.
    pub vault: VaultPolicy,
    /// Whom everything is sealed to.
    pub encryption: Encryption,
    /// Who signs.
    pub signing: Signing,
    /// What snapshots are taken of.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SourcePolicy>")]
    pub sources: BTreeMap<String, Spanned<SourcePolicy>>,
    /// Which logs are kept.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, StreamPolicy>")]
    pub streams: BTreeMap<String, Spanned<StreamPolicy>>,
    /// What is done when.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, JobPolicy>")]
    pub jobs: BTreeMap<String, Spanned<JobPolicy>>,
    /// Where the local cache is kept; `.backstop` beside the policy unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub state: Option<Spanned<String>>,
    /// How `backstop run` goes about it.
    #[serde(default)]
    pub agent: AgentPolicy,
    /// Who is told when something is wrong.
    #[serde(default)]
    pub notify: NotifyPolicy,
}

/// Something that a later version will do; a policy that asks for it is refused with its place.
#[derive(Debug, Clone)]
pub struct NotInThisVersion;

impl<'de> Deserialize<'de> for NotInThisVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// What the jobs must achieve.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// The largest loss of configuration and logs, such as `1h`.
    #[schemars(with = "String")]
    pub rpo: Spanned<String>,
    /// The longest time from declared to validated, such as `4h`.
    #[schemars(with = "String")]
    pub rto: Spanned<String>,
    /// How long everything is kept at least, in calendar years: `7y`.
    #[schemars(with = "String")]
    pub retention: Spanned<Retention>,
    /// The share of time in percent in which the RPO is kept.
    pub availability: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        let said = |text: &str| Spanned::new(text.to_owned(), serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN);
        Self {
            rpo: said("1h"),
            rto: said("4h"),
            retention: Spanned::new(Retention { years: 7 }, serde_saphyr::Location::UNKNOWN, serde_saphyr::Location::UNKNOWN),
            availability: 99.9,
        }
    }
}

/// Where the vault is and how it locks.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultPolicy {
    /// A directory.
    #[serde(default)]
    pub local: Option<LocalVault>,
    /// A storage account.
    #[serde(default)]
    #[schemars(with = "Option<AzureVault>")]
    pub azure: Option<Spanned<AzureVault>>,
    /// How objects are locked.
    #[serde(default)]
    pub lock: LockPolicy,
    /// The genesis envelope as `init` kept it: what trust starts from.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub genesis_file: Option<Spanned<String>>,
    /// zstd's level, 1 to 19; unless said, parameters tuned for records full of ids and digests.
    #[serde(default)]
    #[schemars(with = "Option<i32>")]
    pub compression_level: Option<Spanned<i32>>,
    /// Further stores. Not in this version: must be empty.
    #[serde(default)]
    #[schemars(skip)]
    pub replicas: Vec<Spanned<NotInThisVersion>>,
}

/// A vault in a directory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalVault {
    /// The directory, relative to the policy's.
    pub path: String,
    /// Whether locked objects get the kernel's immutable flag where the process may set it.
    #[serde(default = "yes")]
    pub immutable_flag: bool,
    /// Other names for the four containers.
    #[serde(default)]
    pub containers: BTreeMap<Container, String>,
}

fn yes() -> bool {
    true
}

/// How objects are locked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LockPolicy {
    /// `locked`, `unlocked` (for trials) or `none`.
    pub mode: LockMode,
    /// `version`; `container` is for Azure.
    #[schemars(with = "String")]
    pub by: Option<Spanned<String>>,
    /// Days after an epoch's end in which its runs may still commit: `30d`.
    #[schemars(with = "String")]
    pub grace: Grace,
    /// Retention by container where it is longer than the objective.
    #[schemars(with = "BTreeMap<Container, String>")]
    pub retention: BTreeMap<Container, Spanned<Retention>>,
}

impl Default for LockPolicy {
    fn default() -> Self {
        Self { mode: LockMode::Locked, by: None, grace: Grace { days: 30 }, retention: BTreeMap::new() }
    }
}

/// Whom everything is sealed to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// age recipients (`age1…`), two at least, of which one identity is kept offline.
    #[schemars(with = "Vec<String>")]
    pub recipients: Spanned<Vec<Spanned<String>>>,
}

/// Who signs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// The agent's Ed25519 private key, PKCS#8 PEM.
    #[schemars(with = "String")]
    pub key_file: Spanned<String>,
    /// The tester's: read by `restore-test` alone, on a machine where the agent does not run.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub tester_key_file: Option<Spanned<String>>,
}

/// One source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePolicy {
    /// A directory tree.
    #[serde(default)]
    pub files: Option<FilesPolicy>,
    /// A tenant's configuration from Microsoft Graph.
    #[serde(default)]
    pub graph: Option<GraphPolicy>,
    /// A tenant's configuration from Azure Resource Manager.
    #[serde(default)]
    pub arm: Option<ArmPolicy>,
    /// `config-snapshots` or `evidence`.
    #[serde(default)]
    #[schemars(with = "Option<Container>")]
    pub container: Option<Spanned<Container>>,
    /// `month`, `quarter` or `year`.
    #[serde(default)]
    pub epoch: EpochKind,
}

impl SourcePolicy {
    /// Where its objects go.
    pub fn container(&self) -> Container {
        self.container.as_ref().map_or(Container::ConfigSnapshots, |c| c.value)
    }

    /// Whether its entries carry mode and modification time.
    pub fn metadata(&self) -> bool {
        let said = self.files.as_ref().and_then(|f| f.metadata);
        said.unwrap_or(self.container() == Container::Evidence)
    }
}

/// A directory tree.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesPolicy {
    /// Its root, relative to the policy's directory.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// If not empty: only files that fit one of these globs.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub include: Vec<Spanned<String>>,
    /// Never what fits one of these globs.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Spanned<String>>,
    /// Whether modes and modification times are kept; by default for evidence only.
    #[serde(default)]
    pub metadata: Option<bool>,
}

/// One stream.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamPolicy {
    /// Files given to `backstop import`.
    #[serde(default)]
    pub import: Option<ImportPolicy>,
    /// A log of Microsoft Graph, exported window by window.
    #[serde(default)]
    pub graph_log: Option<LogPolicy>,
    /// A log of Azure Resource Manager, exported window by window.
    #[serde(default)]
    pub arm_log: Option<LogPolicy>,
}

/// Files given to `backstop import`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportPolicy {
    /// JSON pointers to an event's id; the first that is present counts.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub id: Vec<String>,
    /// JSON pointers to an event's time; the first that is present counts.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Vec<String>")]
    pub time: Vec<String>,
    /// `auto`, `ndjson`, `json_array` or `csv`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub format: Format,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> serde::de::Visitor<'de> for OneOrMany {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON pointer or a list of them")
        }
        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut out = Vec::new();
            while let Some(one) = seq.next_element()? {
                out.push(one);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

/// One job: exactly one action and a schedule.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobPolicy {
    /// Take snapshots of these sources.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub snapshot: Option<Vec<Spanned<String>>>,
    /// Commit a checkpoint.
    #[serde(default)]
    pub checkpoint: Option<NoSettings>,
    /// Export the next window of these streams.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub export: Option<Vec<Spanned<String>>>,
    /// Restore recovery points for a test.
    #[serde(default)]
    pub restore_test: Option<RestoreTestPolicy>,
    /// Hold a drill.
    #[serde(default)]
    pub drill: Option<DrillPolicy>,
    /// `cron`'s form with seconds: `0 */30 * * * *`.
    #[schemars(with = "String")]
    pub schedule: Spanned<String>,
    /// A run that lasts longer is stopped and has failed: `4h`. By the kind of job unless said.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Spanned<String>>,
}

/// A restore test.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTestPolicy {
    /// Ids of what records of the tenant refer to although it is gone, or was never in it: such references are no failure.
    #[serde(default)]
    pub outside: Vec<String>,
}

/// A drill.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillPolicy {
    /// Another scenario each time.
    #[serde(default)]
    pub rotate: bool,
    /// Not in this version.
    #[serde(default)]
    #[schemars(skip)]
    pub comprehensive: Option<Spanned<NotInThisVersion>>,
}

/// `{}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl Policy {
    /// The time zone of schedules.
    pub fn zone(&self) -> &str {
        self.timezone.as_ref().map_or("UTC", |zone| zone.value.as_str())
    }

    /// Retention as attestations name it.
    pub fn retention(&self) -> RetentionBy {
        let least = self.objectives.retention.value;
        if self.vault.lock.retention.is_empty() {
            return RetentionBy::All(least);
        }
        let of = |c: Container| (c, self.vault.lock.retention.get(&c).map_or(least, |r| r.value));
        RetentionBy::Containers(Container::ALL.into_iter().map(of).collect())
    }
}

/// Reads `90s`, `15m`, `1h`, `2d` as seconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).filter(|n| *n > 0)
}

/// The same as a duration.
pub fn duration(text: &str) -> Option<SignedDuration> {
    parse_duration(text).and_then(|seconds| i64::try_from(seconds).ok()).map(SignedDuration::from_secs)
}

/// Reads the text, or says where it is wrong.
pub(super) fn parse(text: &str) -> Result<Policy, Box<Problem>> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Err(Box::new(Problem::general("the file is empty").hint("`backstop init` writes a policy with comments")));
    }
    serde_saphyr::from_str::<Policy>(text).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
        let problem = match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown(text, location, "field", field, expected),
            serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => unknown(text, location, "value", variant, expected),
            other => {
                let rendered = other.to_string();
                let first = rendered.lines().next().unwrap_or_default().to_owned();
                // The place is said once, before the message.
                let said = first.rsplit_once(" at line ").map_or(first.as_str(), |(before, _)| before);
                let said = said
                    .split_once(": ")
                    .filter(|(at, _)| at.starts_with("error: line ") || at.starts_with("line "))
                    .map_or(said, |(_, m)| m);
                Problem::at(text, location, plainly(said))
            }
        };
        Box::new(problem)
    })
}

/// What the YAML reader says, in words that do not need its documentation.
fn plainly(said: &str) -> String {
    let said = said.split(", set DuplicateKeyPolicy").next().unwrap_or(said);
    match said {
        "expected mapping start" => "expected `name: value` lines".into(),
        "expected sequence start" => "expected a list: `[a, b]`, or lines that begin with `-`".into(),
        "invalid u32" | "invalid i32" => "expected a whole number".into(),
        "invalid f64" => "expected a number".into(),
        "invalid bool" => "expected true or false".into(),
        other if holds_secret(other) => "this holds a secret identity, which must never stand in a policy".into(),
        other => other.to_owned(),
    }
}

fn unknown(text: &str, location: serde_saphyr::Location, what: &str, found: &str, expected: &[&'static str]) -> Problem {
    let problem = Problem::at(text, location, format!("unknown {what} `{found}`, expected one of: {}", expected.join(", ")));
    match nearest(found, expected.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}

/// The JSON schema of a policy.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Policy).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "backstop policy, version 1".into());
    }
    schema
}
