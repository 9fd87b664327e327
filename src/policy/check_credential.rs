//! Meaning of what a policy says about credentials.

use serde_saphyr::{Location, Spanned};

use super::check::Checker;
use super::credential::{CredentialKind, CredentialPolicy, StoreCredentialPolicy};
use super::problem::Problem;

impl Checker<'_> {
    /// As whom a tenant is read.
    pub(super) fn credential(&mut self, said: &Spanned<CredentialPolicy>) {
        if let Some(sas) = &said.value.sas {
            let problem = Problem::at(self.text, sas.defined, "a shared access signature opens stores only, no tenant");
            self.problems.push(problem.hint("write `managed_identity: {}` or another kind of credential"));
        } else {
            self.kinds(said.defined, &said.value.kinds(), "");
        }
    }

    /// As whom a store is written; `tenant` is the one that the policy names beside it.
    pub(super) fn store_credential(&mut self, said: &Spanned<StoreCredentialPolicy>, tenant: Option<&Spanned<String>>) {
        let kinds = said.value.kinds();
        self.kinds(said.defined, &kinds, ", `sas`");
        if let Some(tenant) = tenant {
            self.tenant(tenant);
        } else if let Some(kind) = kinds.iter().find(|kind| kind.needs_tenant()) {
            self.error(
                said.defined,
                format!("a credential of the kind {} needs `tenant:` beside it: the tenant's id or a domain", kind.name()),
            );
        }
    }

    /// A tenant's id or domain.
    pub(super) fn tenant(&mut self, tenant: &Spanned<String>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if tenant.value.is_empty() || !tenant.value.chars().all(plain) {
            self.error(tenant.defined, format!("{:?} is not a tenant: write its id (a GUID) or a domain of it", tenant.value));
        }
    }

    fn kinds(&mut self, at: Location, kinds: &[CredentialKind<'_>], more: &str) {
        match kinds {
            [one] => self.kind(*one),
            [] => {
                let problem = Problem::at(self.text, at, "the credential has no kind");
                self.problems.push(problem.hint(format!(
                    "write exactly one of `managed_identity: {{}}`, `workload_identity: {{}}`, \
                     `client_secret: {{ client_id: …, secret_env: … }}`, `client_certificate`, `client_assertion`, `azure_cli: {{}}`{more}"
                )));
            }
            several => {
                let names: Vec<&str> = several.iter().map(CredentialKind::name).collect();
                let message = format!("the credential has several kinds ({}): exactly one is tried, so write one", names.join(", "));
                self.error(at, message);
            }
        }
    }

    fn kind(&mut self, kind: CredentialKind<'_>) {
        match kind {
            CredentialKind::ManagedIdentity(said) => {
                let ids = [&said.value.client_id, &said.value.object_id, &said.value.resource_id];
                match ids.into_iter().flatten().collect::<Vec<_>>()[..] {
                    [] => {}
                    [id] if !id.is_empty() => {}
                    [_] => self.error(said.defined, "the identity's id is empty".into()),
                    _ => self.error(said.defined, "name the identity by one of `client_id`, `object_id` and `resource_id`".into()),
                }
                if let Some(id) = said.value.resource_id.as_ref().filter(|id| !id.is_empty() && !id.starts_with("/subscriptions/")) {
                    self.error(said.defined, format!("{id:?} is not a resource id, which begins with /subscriptions/"));
                }
            }
            CredentialKind::WorkloadIdentity(said) => {
                self.given(said.defined, said.value.client_id.as_deref(), "client_id", "AZURE_CLIENT_ID");
                self.given(said.defined, said.value.token_file.as_deref(), "token_file", "AZURE_FEDERATED_TOKEN_FILE");
            }
            CredentialKind::ClientSecret(said) => {
                self.client(said.defined, &said.value.client_id);
                self.secret(said.defined, "secret", ["secret_env", "secret_file"], [&said.value.secret_env, &said.value.secret_file]);
            }
            CredentialKind::ClientCertificate(said) => {
                self.client(said.defined, &said.value.client_id);
                self.file(said.defined, "certificate", &said.value.certificate_file);
            }
            CredentialKind::ClientAssertion(said) => {
                self.client(said.defined, &said.value.client_id);
                let places = [&said.value.assertion_env, &said.value.assertion_file];
                self.secret(said.defined, "assertion", ["assertion_env", "assertion_file"], places);
            }
            CredentialKind::AzureCli(_) => {}
            CredentialKind::Sas(said) => {
                self.secret(said.defined, "shared access signature", ["env", "file"], [&said.value.env, &said.value.file]);
            }
        }
    }

    fn client(&mut self, at: Location, client_id: &str) {
        if client_id.is_empty() {
            self.error(at, "the client_id is empty".into());
        }
    }

    /// What the policy says, or else the environment.
    fn given(&mut self, at: Location, said: Option<&str>, field: &str, variable: &str) {
        match said {
            Some("") => self.error(at, format!("the {field} is empty")),
            Some(_) => {}
            None if std::env::var_os(variable).is_none() && self.secrets.insert(variable.to_owned()) => {
                self.warn(at, format!("the environment variable {variable}, which gives the {field}, is not set here"));
            }
            None => {}
        }
    }

    /// Where a secret is: in an environment variable or a file, exactly one of them.
    pub(super) fn secret(&mut self, at: Location, what: &str, fields: [&str; 2], places: [&Option<String>; 2]) {
        match places {
            [Some(name), None] if name.is_empty() => self.error(at, format!("the {} is empty", fields[0])),
            [Some(name), None] if std::env::var_os(name).is_none() && self.secrets.insert(name.clone()) => {
                self.warn(at, format!("the environment variable {name}, which should hold the {what}, is not set here"));
            }
            [Some(_), None] => {}
            [None, Some(file)] => self.file(at, what, file),
            _ => self.error(at, format!("say where the {what} is: exactly one of `{}` and `{}`", fields[0], fields[1])),
        }
    }

    fn file(&mut self, at: Location, what: &str, file: &str) {
        let place = self.base.join(file);
        if file.is_empty() {
            self.error(at, format!("the file of the {what} has no name"));
        } else if !place.is_file() && self.secrets.insert(file.to_owned()) {
            self.warn(at, format!("there is no file {}, which should hold the {what}", place.display()));
        }
    }
}
