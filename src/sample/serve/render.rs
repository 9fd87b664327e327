//! Objects as they are sent: projected, with what was to be expanded.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::sample::estate::Estate;
use crate::sample::filter::Properties;
use crate::sample::kinds::{Kind, Rules, USER_DEFAULT};
use crate::sample::query::{Expand, Query};
use crate::sample::record::{Projection, Record};

/// A record, read by a filter.
pub struct View<'a>(pub &'a Record);

impl Properties for View<'_> {
    fn property(&self, name: &str) -> Option<Cow<'_, Value>> {
        serde_json::from_slice(self.0.raw(name)?).ok().map(Cow::Owned)
    }
}

/// Writes objects of one collection the way one request wants them.
pub struct Renderer<'a> {
    estate: &'a Estate,
    projection: Projection,
    joins: Vec<Join>,
    instances: bool,
}

/// An object that stands elsewhere and is put in place of its id.
struct Join {
    name: String,
    by: &'static str,
    projection: Projection,
}

/// The types whose objects can be principals.
fn type_of(kind: Kind) -> &'static str {
    kind.rules().odata_type
}

fn all_of(rules: &Rules, beta: bool, but: &[Expand]) -> Projection {
    if !rules.default.is_empty() {
        return Projection::these(rules.default.iter().copied());
    }
    let hidden = rules.navigation.iter().filter(|n| !but.iter().any(|e| e.name == **n));
    let preview = rules.beta_only.iter().filter(|_| !beta);
    Projection::all_but(hidden.chain(preview).copied())
}

impl<'a> Renderer<'a> {
    /// For a query; what it may not ask is said in the service's words.
    pub fn new(estate: &'a Estate, rules: &Rules, beta: bool, query: &Query) -> Result<Self, String> {
        let table = estate.table(rules.kind);
        let mut joins = Vec::new();
        for expand in &query.expand {
            if !rules.navigation.contains(&expand.name.as_str()) {
                let kind = rules.odata_type.trim_start_matches('#');
                return Err(format!(
                    "Parsing OData Select and Expand failed: Could not find a property named '{}' on type '{kind}'.",
                    expand.name
                ));
            }
            let by = match expand.name.as_str() {
                "principal" => "principalId",
                "roleDefinition" => "roleDefinitionId",
                "directoryScope" => "directoryScopeId",
                "policy" => "policyId",
                _ => continue,
            };
            let projection = match (&expand.select, expand.name.as_str()) {
                (Some(names), _) => Projection::these(names.iter().map(String::as_str)),
                (None, "principal") => {
                    Projection::these(USER_DEFAULT.into_iter().chain(["appId", "description", "securityEnabled", "mailEnabled"]))
                }
                (None, "policy") if expand.expand.as_deref() == Some("rules") => Projection::all_but([""]),
                (None, "policy") => Projection::all_but(["rules"]),
                _ => Projection::all_but(["inheritsPermissionsFrom", "isPrivileged", "allowedPrincipalTypes"]),
            };
            joins.push(Join { name: expand.name.clone(), by, projection });
        }
        let several = query.expand.len() > 1;
        if rules.kind == Kind::RoleAssignments && several {
            return Err("Only one navigation property may be expanded in a request.".into());
        }
        let projection = match &query.select {
            Some(names) if names.iter().any(|n| n == "*") => all_of(rules, beta, &query.expand),
            Some(names) => {
                let strange = names
                    .iter()
                    .find(|n| !table.knows(n) && !rules.navigation.contains(&n.as_str()) && !["members", "owners"].contains(&n.as_str()));
                if let (Some(name), true) = (strange, table.len() > 0) {
                    let kind = rules.odata_type.trim_start_matches('#');
                    return Err(format!(
                        "Parsing OData Select and Expand failed: Could not find a property named '{name}' on type '{kind}'."
                    ));
                }
                let hidden = |n: &&String| !beta && rules.beta_only.contains(&n.as_str());
                let names = names.iter().filter(|n| !hidden(n)).cloned();
                Projection::these(names.chain(query.expand.iter().map(|e| e.name.clone())))
            }
            None => all_of(rules, beta, &query.expand),
        };
        Ok(Self { estate, projection, joins, instances: false })
    }

    /// Shows schedules as the instances that follow from them.
    #[must_use]
    pub fn with_instances(mut self) -> Self {
        self.instances = true;
        self
    }

    /// Writes the properties of an object, without braces.
    pub fn write_inside(&mut self, record: &Record, out: &mut Vec<u8>) {
        if self.instances {
            let value = instance(&record.to_value());
            let text = value.to_string();
            out.extend_from_slice(&text.as_bytes()[1..text.len() - 1]);
        } else {
            self.projection.write(record, out);
        }
        for join in &mut self.joins {
            let id = record.text(join.by).unwrap_or_default();
            out.extend_from_slice(b",\"");
            out.extend_from_slice(join.name.as_bytes());
            out.extend_from_slice(b"\":");
            let found = match join.by {
                "principalId" => self.estate.principal(id),
                "roleDefinitionId" => self.estate.table(Kind::RoleDefinitions).get(id).map(|r| (Kind::RoleDefinitions, r)),
                "policyId" => self.estate.table(Kind::RoleManagementPolicies).get(id).map(|r| (Kind::RoleManagementPolicies, r)),
                _ => {
                    let unit = id.strip_prefix("/administrativeUnits/").unwrap_or_default();
                    self.estate.table(Kind::AdministrativeUnits).get(unit).map(|r| (Kind::AdministrativeUnits, r))
                }
            };
            let Some((kind, record)) = found else {
                out.extend_from_slice(b"null");
                continue;
            };
            out.push(b'{');
            if matches!(join.by, "principalId" | "directoryScopeId") {
                out.extend_from_slice(b"\"@odata.type\":\"");
                out.extend_from_slice(type_of(kind).as_bytes());
                out.extend_from_slice(b"\",");
            }
            join.projection.write(record, out);
            out.push(b'}');
        }
    }

    /// Writes an object.
    pub fn write(&mut self, record: &Record, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_inside(record, out);
        out.push(b'}');
    }
}

/// The instance that follows from a schedule.
fn instance(schedule: &Value) -> Value {
    let info = &schedule["scheduleInfo"];
    let mut out = json!({
        "id": schedule["id"], "principalId": schedule["principalId"], "roleDefinitionId": schedule["roleDefinitionId"],
        "directoryScopeId": schedule["directoryScopeId"], "appScopeId": schedule["appScopeId"], "startDateTime": info["startDateTime"],
        "endDateTime": info["expiration"]["endDateTime"], "memberType": schedule["memberType"],
    });
    if schedule["assignmentType"].is_null() {
        out["roleEligibilityScheduleId"] = schedule["id"].clone();
    } else {
        out["assignmentType"] = schedule["assignmentType"].clone();
        out["roleAssignmentScheduleId"] = schedule["id"].clone();
        out["roleAssignmentOriginId"] = schedule["id"].clone();
    }
    out
}
