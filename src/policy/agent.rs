//! The policy's part about the daemon.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// How `backstop run` goes about its jobs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentPolicy {
    /// Each run begins up to so much later than it is due, so that not everybody asks at once; `20s` unless said.
    #[schemars(with = "Option<String>")]
    pub jitter: Option<Spanned<String>>,
    /// So many jobs run at a time; 2 unless said.
    #[schemars(with = "Option<u32>")]
    pub concurrency: Option<Spanned<u32>>,
    /// Where metrics, health and the status page are served, on this machine only; `127.0.0.1:9475` unless said, `off` for nowhere.
    #[schemars(with = "Option<String>")]
    pub listen: Option<Spanned<String>>,
    /// Asked for after each run that succeeded, as long as no job is overdue: a dead man's switch.
    #[schemars(with = "Option<AddressPolicy>")]
    pub heartbeat: Option<Spanned<AddressPolicy>>,
}

/// An address; where it holds a secret, as those of chats and switches do, it stands in a variable or a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressPolicy {
    /// The address itself.
    #[serde(default)]
    pub url: Option<String>,
    /// The environment variable that holds it.
    #[serde(default)]
    pub url_env: Option<String>,
    /// The file that holds it, relative to the policy's directory.
    #[serde(default)]
    pub url_file: Option<String>,
}
