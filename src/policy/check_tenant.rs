//! Meaning of what a policy says about tenants and their logs.

use serde_saphyr::Spanned;

use super::check::Checker;
use super::model::parse_duration;
use super::problem::{Problem, nearest};
use super::tenant::{ArmPolicy, GraphPolicy, LogPolicy, SubscriptionsPolicy, TenantAccess};
use crate::http;
use crate::source::catalog::{self, Catalog, Plane};

impl Checker<'_> {
    /// A source that reads Microsoft Graph.
    pub(super) fn graph(&mut self, policy: &GraphPolicy) {
        self.access(&policy.access());
        self.catalogs(&policy.catalog, Plane::Graph);
    }

    /// A source that reads Azure Resource Manager.
    pub(super) fn arm(&mut self, policy: &ArmPolicy) {
        self.access(&policy.access());
        self.catalogs(&policy.catalog, Plane::Arm);
        self.subscriptions(policy.subscriptions.as_ref());
    }

    /// A stream that is exported.
    pub(super) fn log(&mut self, policy: &LogPolicy, plane: Plane) {
        self.access(&policy.access());
        let logs: Vec<&str> = Catalog::all().logs.iter().filter(|l| l.plane == plane).map(|l| l.id.as_str()).collect();
        if !logs.contains(&policy.log.value.as_str()) {
            let message = format!("there is no log {:?}; there are: {}", policy.log.value, logs.join(", "));
            self.suggest(&policy.log, message, &logs);
        }
        for (what, said) in [("lookback", &policy.lookback), ("settle", &policy.settle), ("available", &policy.available)] {
            if let Some(said) = said
                && parse_duration(&said.value).is_none()
            {
                self.error(said.defined, format!("{what}: {:?} is not a duration: write 90s, 15m, 1h or 2d", said.value));
            }
        }
        self.subscriptions(policy.subscriptions.as_ref());
    }

    fn suggest(&mut self, said: &Spanned<String>, message: String, known: &[&str]) {
        let problem = Problem::at(self.text, said.defined, message);
        self.problems.push(match nearest(&said.value, known.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }

    fn catalogs(&mut self, names: &Spanned<Vec<Spanned<String>>>, plane: Plane) {
        if names.value.is_empty() {
            self.error(names.defined, "it names no catalog: nothing would be captured".into());
        }
        let fitting = |name: &&str| Catalog::load([*name]).is_ok_and(|c| c.collections.iter().all(|c| c.plane == plane));
        let known: Vec<&str> = catalog::names().into_iter().filter(fitting).collect();
        for (n, name) in names.value.iter().enumerate() {
            if !known.contains(&name.value.as_str()) {
                let message = format!("there is no catalog {:?} for this kind of source; there are: {}", name.value, known.join(", "));
                self.suggest(name, message, &known);
            }
            if names.value[..n].iter().any(|earlier| earlier.value == name.value) {
                self.error(name.defined, format!("the catalog {} is named twice", name.value));
            }
        }
    }

    fn subscriptions(&mut self, said: Option<&Spanned<SubscriptionsPolicy>>) {
        let Some(said) = said else { return };
        match &said.value {
            SubscriptionsPolicy::Word(word) if word != "all" => {
                self.error(said.defined, format!("{word:?} is neither `all` nor a list of subscription ids"));
            }
            SubscriptionsPolicy::These(ids) if ids.is_empty() => {
                self.error(said.defined, "it names no subscription: nothing would be captured".into());
            }
            SubscriptionsPolicy::These(ids) => {
                if let Some(bad) = ids.iter().find(|id| uuid::Uuid::parse_str(id).is_err()) {
                    self.error(said.defined, format!("{bad:?} is not a subscription's id, which is a GUID"));
                }
            }
            SubscriptionsPolicy::Word(_) => {}
        }
    }

    fn access(&mut self, access: &TenantAccess<'_>) {
        self.tenant(access.tenant);
        for said in [access.endpoint, access.authority].into_iter().flatten() {
            if let Err(e) = http::endpoint(&said.value) {
                self.error(said.defined, e);
            }
        }
        self.credential(access.credential);
    }
}
