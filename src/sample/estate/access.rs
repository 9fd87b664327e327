//! Conditional access: the places it knows, and the policies of a tenant that takes it seriously.

use serde_json::{Value, json};

use super::privilege::USUAL;
use super::{Basis, Estate, directory};
use crate::sample::instant::ticks_text;
use crate::sample::kinds::Kind;

/// Names of the policies, in order; logs tell which ones applied.
pub const POLICIES: [&str; 14] = [
    "CA001: Require multifactor authentication for administrators",
    "CA002: Securing security info registration",
    "CA003: Block legacy authentication",
    "CA004: Require multifactor authentication for all users",
    "CA005: Require multifactor authentication for guests",
    "CA006: Require multifactor authentication for Azure management",
    "CA007: Require multifactor authentication for risky sign-ins",
    "CA008: Require password change for high-risk users",
    "CA009: Require compliant device for administrators",
    "CA010: Block sign-ins from countries without business",
    "CA011: No persistent browser session",
    "CA012: Block device code flow",
    "CA013: Limit workload identities to known addresses",
    "CA014: Compliant device for everyone (pilot)",
];

pub(super) fn build(estate: &mut Estate) {
    let basis = estate.basis.clone();
    locations(estate, &basis);
    for n in 0..POLICIES.len() {
        let value = policy(&basis, n);
        estate.put(Kind::ConditionalAccessPolicies, &basis.guid("caPolicy", n), &value);
    }
}

fn locations(estate: &mut Estate, basis: &Basis) {
    let ranges = |list: &[&str]| {
        let range = |r: &&str| {
            let kind = if r.contains(':') { "#microsoft.graph.iPv6CidrRange" } else { "#microsoft.graph.iPv4CidrRange" };
            json!({"@odata.type": kind, "cidrAddress": r})
        };
        list.iter().map(range).collect::<Vec<_>>()
    };
    let ip = |trusted: bool, list: &[&str]| json!({"@odata.type": "#microsoft.graph.ipNamedLocation", "isTrusted": trusted, "ipRanges": ranges(list)});
    let land = |list: &[&str]| {
        json!({
            "@odata.type": "#microsoft.graph.countryNamedLocation", "countriesAndRegions": list, "includeUnknownCountriesAndRegions": false,
            "countryLookupMethod": "clientIpAddress",
        })
    };
    let places = [
        ("Headquarters", ip(true, &["203.0.113.0/25", "2001:db8:10::/48"])),
        ("Branch offices", ip(true, &["198.51.100.0/26", "198.51.100.128/26"])),
        ("VPN egress", ip(true, &["192.0.2.0/28"])),
        ("Partner Fabrikam", ip(false, &["203.0.113.192/28"])),
        ("Countries with business", land(&["CH", "DE", "ES", "FR", "GB", "IN", "JP", "PL", "US"])),
        ("Countries without business", land(&["KP", "IR", "SY"])),
    ];
    for (n, (name, mut value)) in places.into_iter().enumerate() {
        let id = basis.guid("namedLocation", n);
        let at = ticks_text(basis.before(11, n, 900));
        value["id"] = json!(id);
        value["displayName"] = json!(name);
        value["createdDateTime"] = json!(at);
        value["modifiedDateTime"] = json!(at);
        estate.put(Kind::NamedLocations, &id, &value);
    }
}

fn policy(basis: &Basis, n: usize) -> Value {
    let (glass, excluded) = (basis.guid("group", directory::GLASS), basis.guid("group", directory::EXCLUDED));
    let place = |n: usize| basis.guid("namedLocation", n);
    let mut users = json!({
        "includeUsers": ["All"], "excludeUsers": [], "includeGroups": [], "excludeGroups": [glass], "includeRoles": [], "excludeRoles": [],
        "includeGuestsOrExternalUsers": null, "excludeGuestsOrExternalUsers": null,
    });
    let mut applications = json!({"includeApplications": ["All"], "excludeApplications": [], "includeUserActions": [], "includeAuthenticationContextClassReferences": [], "applicationFilter": null});
    let mut grant = json!({"operator": "OR", "builtInControls": ["mfa"], "customAuthenticationFactors": [], "termsOfUse": [], "authenticationStrength": null});
    let (mut locations, mut session, mut clients, mut platforms) = (Value::Null, Value::Null, json!(["all"]), Value::Null);
    let (mut sign_in_risk, mut user_risk, mut flows, mut workload) = (json!([]), json!([]), Value::Null, Value::Null);
    let administrators = |users: &mut Value| {
        users["includeUsers"] = json!([]);
        users["includeRoles"] = json!(USUAL[..14]);
    };
    match n {
        0 => administrators(&mut users),
        1 => {
            applications["includeApplications"] = json!([]);
            applications["includeUserActions"] = json!(["urn:user:registersecurityinfo"]);
            locations = json!({"includeLocations": ["All"], "excludeLocations": ["AllTrusted"]});
        }
        2 => {
            clients = json!(["exchangeActiveSync", "other"]);
            grant["builtInControls"] = json!(["block"]);
        }
        3 => {
            users["excludeGroups"] = json!([glass, excluded]);
            locations = json!({"includeLocations": ["All"], "excludeLocations": [place(0), place(1)]});
        }
        4 => {
            users["includeUsers"] = json!([]);
            users["includeGuestsOrExternalUsers"] = json!({
                "guestOrExternalUserTypes": "b2bCollaborationGuest,b2bCollaborationMember",
                "externalTenants": {"@odata.type": "#microsoft.graph.conditionalAccessAllExternalTenants", "membershipKind": "all"},
            });
        }
        5 => applications["includeApplications"] = json!(["797f4846-ba00-4fd7-ba43-dac1f8f63013"]),
        6 => sign_in_risk = json!(["high", "medium"]),
        7 => {
            user_risk = json!(["high"]);
            grant["operator"] = json!("AND");
            grant["builtInControls"] = json!(["mfa", "passwordChange"]);
        }
        8 => {
            administrators(&mut users);
            grant["builtInControls"] = json!(["compliantDevice", "domainJoinedDevice"]);
        }
        9 => {
            locations = json!({"includeLocations": [place(5)], "excludeLocations": []});
            grant["builtInControls"] = json!(["block"]);
        }
        10 => {
            grant = Value::Null;
            platforms = json!({"includePlatforms": ["all"], "excludePlatforms": ["windows", "macOS"]});
            session = json!({
                "applicationEnforcedRestrictions": null, "cloudAppSecurity": null, "disableResilienceDefaults": null,
                "persistentBrowser": {"isEnabled": true, "mode": "never"},
                "signInFrequency": {"authenticationType": "primaryAndSecondaryAuthentication", "frequencyInterval": "timeBased", "isEnabled": true, "type": "hours", "value": 8},
            });
        }
        11 => {
            flows = json!({"transferMethods": "deviceCodeFlow"});
            grant["builtInControls"] = json!(["block"]);
        }
        12 => {
            users["includeUsers"] = json!(["None"]);
            users["excludeGroups"] = json!([]);
            workload = json!({"includeServicePrincipals": ["ServicePrincipalsInMyTenant"], "excludeServicePrincipals": [basis.guid("servicePrincipal", 0)]});
            locations = json!({"includeLocations": ["All"], "excludeLocations": [place(0), place(2)]});
            grant["builtInControls"] = json!(["block"]);
        }
        _ => {
            users["excludeGroups"] = json!([glass, excluded]);
            grant["builtInControls"] = json!(["compliantDevice"]);
        }
    }
    let state = match n {
        13 => "enabledForReportingButNotEnforced",
        10 => "disabled",
        _ => "enabled",
    };
    json!({
        "id": basis.guid("caPolicy", n), "displayName": POLICIES[n], "state": state, "templateId": null, "deletedDateTime": null, "description": null,
        "createdDateTime": ticks_text(basis.before(12, n, 800)), "modifiedDateTime": n.is_multiple_of(3).then(|| ticks_text(basis.before(13, n, 200))),
        "conditions": {
            "applications": applications, "users": users, "clientApplications": workload, "clientAppTypes": clients, "platforms": platforms,
            "locations": locations, "devices": null, "signInRiskLevels": sign_in_risk, "userRiskLevels": user_risk, "servicePrincipalRiskLevels": [],
            "authenticationFlows": flows, "insiderRiskLevels": null,
        },
        "grantControls": grant, "sessionControls": session,
    })
}

/// Policies that use a feature in preview: the first version of the interface leaves them out.
pub fn in_preview(name: &str) -> bool {
    name.starts_with("CA013")
}
