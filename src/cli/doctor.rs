//! `backstop doctor`.

use serde_json::json;

use super::context::Context;
use super::credential;
use super::exit::{CliError, Exit};
use super::output::{BAD, DOUBT, FAINT, GOOD};
use super::store;
use crate::doctor::{AccountCheck, Findings, HostCheck, Severity, check_account, check_canary, check_host, check_night};
use crate::policy::{AzureVault, CredentialKind, LoadedPolicy};
use crate::store::azure::{SasFacts, sas_facts};
use crate::store::{Clock, Store, SystemClock};
use crate::vault::Ledger;

pub fn run(context: &Context) -> Result<Exit, CliError> {
    let policy = context.policy()?;
    let mut out = Findings::default();
    let now = SystemClock.now();
    let mut ledger = None;
    match &policy.policy.vault.azure {
        Some(said) => azure(context, &policy, &said.value, &mut ledger, &mut out),
        None => match store::open(&policy) {
            Ok(store) => {
                check_canary(store.as_ref(), None, policy.policy.vault.lock.mode, now, &mut out);
                ledger = open(context, &policy, store, &mut out);
            }
            Err(e) => refused("store", e, &mut out),
        },
    }
    let state = Context::state_dir(&policy);
    let check = HostCheck { policy: &policy, state: &state, identities: &context.global.identity, ledger: ledger.as_ref(), now };
    check_host(&check, &mut out);
    let leases = store::leases(&policy).map_err(|e| e.causes.join(": "));
    check_night(&policy.policy, leases.as_deref().map_err(Clone::clone), &mut out);
    show(context, &out)
}

fn azure(context: &Context, policy: &LoadedPolicy, said: &AzureVault, ledger: &mut Option<Ledger>, out: &mut Findings) {
    let now = SystemClock.now();
    let store = match store::azure(policy, said) {
        Ok(store) => store,
        Err(e) => return refused("credential", e, out),
    };
    let manager = if said.has_tokens() { store::manager(policy, said).ok() } else { None };
    let sas = signature(policy, said);
    check_account(&AccountCheck { policy, said, store: &store, manager: manager.as_ref(), sas: sas.as_ref(), now }, out);
    if out.ok() {
        check_canary(store.as_ref(), Some(&store), policy.policy.vault.lock.mode, now, out);
    } else {
        out.warn("lock", "no canary was put: what is wrong above comes first", "mend that, and run `backstop doctor` again");
    }
    *ledger = open(context, policy, store, out);
}

fn signature(policy: &LoadedPolicy, said: &AzureVault) -> Option<SasFacts> {
    let [CredentialKind::Sas(sas)] = said.credential.value.kinds()[..] else { return None };
    let place = (sas.value.env.as_deref(), sas.value.file.as_deref());
    credential::secret(policy, "the shared access signature", place, "").ok().map(|secret| sas_facts(secret.reveal()))
}

fn open(context: &Context, policy: &LoadedPolicy, store: std::sync::Arc<dyn Store>, out: &mut Findings) -> Option<Ledger> {
    match context.ledger_of(policy, store) {
        Ok(ledger) => Some(ledger),
        Err(e) => {
            refused("vault", e, out);
            None
        }
    }
}

fn refused(subject: &'static str, error: CliError, out: &mut Findings) {
    let mend = error.hint.clone().unwrap_or_else(|| "see what is said, and run `backstop doctor` again".into());
    out.error(subject, error.causes.join(": "), mend);
}

fn show(context: &Context, findings: &Findings) -> Result<Exit, CliError> {
    let output = context.output;
    output.json(&json!({ "ok": findings.ok(), "findings": findings.list }));
    for finding in &findings.list {
        let (style, word) = match finding.severity {
            Severity::Error => (BAD, "error"),
            Severity::Warning => (DOUBT, "warning"),
            Severity::Info => (GOOD, "well"),
        };
        output.tell(format!("{style}{word:<8}{style:#}{:<13}{}", finding.subject, finding.message));
        if let Some(mend) = &finding.mend {
            output.tell(format!("{:21}{FAINT}mend: {mend}{FAINT:#}", ""));
        }
    }
    let count = |severity: Severity| findings.list.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors == 0 {
        output.say(format!("{GOOD}Backups can be made and are protected as said above{GOOD:#}; {warnings} warnings"));
        return Ok(Exit::Done);
    }
    output.say(format!("{BAD}{errors} of these endanger the backups{BAD:#}; {warnings} warnings"));
    Ok(Exit::Failed)
}
