//! Meaning of what a policy says about a vault in Azure.

use std::collections::BTreeSet;

use super::azure::AzureVault;
use super::check::Checker;
use super::model::LockPolicy;
use super::problem::Problem;
use crate::http;
use crate::vault::names::Container;

impl Checker<'_> {
    /// A vault in Azure Blob Storage.
    pub(super) fn azure(&mut self, azure: &AzureVault, lock: &LockPolicy) {
        let account = &azure.account;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !(3..=24).contains(&account.value.len()) || !account.value.chars().all(plain) {
            let message = format!("{:?} is not a storage account: 3 to 24 lower-case letters and digits", account.value);
            self.error(account.defined, message);
        }
        for said in [&azure.endpoint, &azure.authority, &azure.arm_endpoint].into_iter().flatten() {
            match http::endpoint(&said.value) {
                Err(e) => self.error(said.defined, e),
                Ok(url) if url.query().is_some() => {
                    let problem =
                        Problem::at(self.text, said.defined, "an address has no query: a signature in it would be a secret in the policy");
                    self.problems.push(problem.hint("write `credential: { sas: { env: NAME } }` or `{ sas: { file: PATH } }`"));
                }
                Ok(_) => {}
            }
        }
        for name in azure.containers.values() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let v = &name.value;
            if !(3..=63).contains(&v.len()) || !v.chars().all(plain) || v.starts_with('-') || v.ends_with('-') || v.contains("--") {
                let message = format!("{v:?} is not a container: 3 to 63 lower-case letters, digits and single hyphens");
                self.error(name.defined, message);
            }
        }
        let real: BTreeSet<String> = Container::ALL.into_iter().map(|c| azure.container(c)).collect();
        if real.len() != Container::ALL.len() {
            self.problems.push(Problem::general("vault.azure.containers: every container needs a name of its own"));
        }
        self.store_credential(&azure.credential, azure.tenant.as_ref());
        if let Some(by) = &lock.by {
            match by.value.as_str() {
                "version" => {}
                "container" if azure.has_tokens() => {}
                "container" => {
                    let problem = Problem::at(
                        self.text,
                        by.defined,
                        "locks by `container` are read through Azure Resource Manager, which takes no SAS",
                    );
                    self.problems
                        .push(problem.hint("write another kind of credential, such as `managed_identity: {}`, or lock by `version`"));
                }
                other => self.error(by.defined, format!("a vault locks by `version` or `container`, not {other:?}")),
            }
        }
    }
}
