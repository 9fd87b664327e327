//! What a record says: the shapes of Microsoft Graph, filled from the record's own randomness. A
//! record at a day is its first content with each of its changes applied in turn.

use serde_json::{Value, json};

use crate::names;
use crate::rng::{Instant, Rng};
use crate::world::Collection::{
    self, Applications, AssignmentSchedules, Assignments, ConditionalAccess, EligibilitySchedules, Groups, NamedLocations, Policies,
    PolicyAssignments, RoleDefinitions, ServicePrincipals, Users,
};
use crate::world::{World, purpose};

/// A record as a file's bytes: keys in order, two blanks a level, a line feed at the end. The
/// order is made here so that it does not depend on how `serde_json` was built.
pub fn bytes(world: &World, collection: Collection, index: usize) -> Vec<u8> {
    let mut record = document(world, collection, index);
    for &day in world.changes(collection, index) {
        let mut rng = Rng::keyed(&[world.seed, purpose::CHANGE, collection as u64, index as u64, day]);
        change(world, collection, &mut record, World::on_day(day, &mut rng), &mut rng);
    }
    record.sort_all_objects();
    let mut bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Who a user is: display name, given name, surname, mail nickname.
pub struct Person {
    pub display: String,
    pub given: &'static str,
    pub surname: &'static str,
    pub nickname: String,
    pub guest: bool,
}

/// The person at an index. Names repeat only after every pair was used; then a number tells them apart.
pub fn person(index: usize) -> Person {
    let pairs = names::GIVEN.len() * names::SURNAMES.len();
    // A stride without a common divisor visits each pair once.
    let pair = index * 7_919 % pairs;
    let given = names::GIVEN[pair % names::GIVEN.len()];
    let surname = names::SURNAMES[pair / names::GIVEN.len()];
    let mut nickname = format!("{}.{}", names::ascii(given), names::ascii(surname));
    if index >= pairs {
        nickname.push_str(&(index / pairs + 1).to_string());
    }
    Person { display: format!("{given} {surname}"), given, surname, nickname, guest: index % 12 == 7 }
}

impl Person {
    pub fn principal_name(&self) -> String {
        if self.guest {
            format!("{}_{}#EXT#@{}", self.nickname, self.home(), names::TENANT_DOMAIN)
        } else {
            format!("{}@{}", self.nickname, names::DOMAIN)
        }
    }

    pub fn mail(&self) -> String {
        format!("{}@{}", self.nickname, self.home())
    }

    fn home(&self) -> &'static str {
        if self.guest { names::PARTNERS[self.nickname.len() % names::PARTNERS.len()] } else { names::DOMAIN }
    }
}

fn document(world: &World, collection: Collection, index: usize) -> Value {
    let mut rng = world.rng(collection, index);
    let created = world.created(collection, index, &mut rng);
    let id = world.id(collection, index);
    match collection {
        Users => user(world, index, &id, created, &mut rng),
        Groups => group(world, &id, created, &mut rng),
        ServicePrincipals => service_principal(world, index, &id, created, &mut rng),
        Applications => application(world, index, &id, created, &mut rng),
        EligibilitySchedules | AssignmentSchedules => schedule(world, collection, &id, created, &mut rng),
        Assignments => assignment(world, &id, &mut rng),
        Policies => policy(world, index, &id, &mut rng),
        PolicyAssignments => policy_assignment(world, index),
        ConditionalAccess => conditional_access(world, index, &id, created, &mut rng),
        NamedLocations => named_location(index, &id, created, &mut rng),
        RoleDefinitions => role_definition(index, &id, created, &mut rng),
    }
}

/// One attribute and, where the record has one, the instant of its last change.
fn change(world: &World, collection: Collection, record: &mut Value, at: Instant, rng: &mut Rng) {
    match collection {
        Users => {
            record["onPremisesLastSyncDateTime"] = at.seconds().into();
            match rng.index(5) {
                0 => record["jobTitle"] = title(rng).into(),
                1 => record["department"] = rng.pick(names::DEPARTMENTS).into(),
                2 => record["officeLocation"] = office(rng).into(),
                3 => record["lastPasswordChangeDateTime"] = at.seconds().into(),
                _ => record["manager"]["id"] = world.id(Users, world.anchor(rng, Users)).into(),
            }
        }
        Groups => {
            record["renewedDateTime"] = at.seconds().into();
            if let Some(members) = record["members"].as_array_mut() {
                members.push(member(world, rng));
            }
        }
        ServicePrincipals => {
            record["accountEnabled"] = rng.chance(90).into();
            record["notes"] = format!("Reviewed {}", at.date()).into();
        }
        Applications => record["passwordCredentials"] = json!([secret(at, rng)]),
        EligibilitySchedules | AssignmentSchedules => {
            record["modifiedDateTime"] = at.millis().into();
            record["scheduleInfo"]["expiration"] = until(Instant(at.0 + (30 + rng.below(335)) * Instant::DAY));
        }
        Policies => {
            record["lastModifiedDateTime"] = at.millis().into();
            record["lastModifiedBy"] = modified_by(world, rng);
            record["rules"][10]["maximumDuration"] = hours(rng).into();
        }
        ConditionalAccess => {
            record["modifiedDateTime"] = at.millis().into();
            record["state"] = rng.pick(&["enabled", "disabled", "enabledForReportingButNotEnforced"]).into();
        }
        NamedLocations => {
            record["modifiedDateTime"] = at.millis().into();
            record["displayName"] = format!("{} ({})", text(record, "displayName"), at.date()).into();
        }
        RoleDefinitions => {
            record["description"] = format!("{} Reviewed {}.", text(record, "description"), at.date()).into();
        }
        Assignments | PolicyAssignments => {}
    }
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

fn title(rng: &mut Rng) -> String {
    rng.pick(names::TITLES).to_owned()
}

fn office(rng: &mut Rng) -> String {
    format!("{}/{}", 1 + rng.below(40), 1_000 + rng.below(4_000))
}

fn hours(rng: &mut Rng) -> String {
    format!("PT{}H", rng.pick(&[1, 2, 4, 8, 8, 8, 10, 12]))
}

fn member(world: &World, rng: &mut Rng) -> Value {
    json!({ "@odata.type": "#microsoft.graph.user", "id": world.id(Users, world.anchor(rng, Users)) })
}

fn modified_by(world: &World, rng: &mut Rng) -> Value {
    let index = world.anchor(rng, Users);
    json!({ "displayName": person(index).display, "id": world.id(Users, index) })
}

fn sid(rng: &mut Rng) -> String {
    let part = u64::from(u32::MAX);
    format!("S-1-12-1-{}-{}-{}-{}", rng.below(part), rng.below(part), rng.below(part), rng.below(part))
}

fn user(world: &World, index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let who = person(index);
    let (city, _, _, usage, phone, _, _) = rng.pick(names::CITIES);
    let licences: Vec<Value> = (0..=rng.skewed(3))
        .map(|_| json!({ "disabledPlans": [], "skuId": Rng::keyed(&[world.seed, purpose::TENANT, 1 + rng.skewed(names::LICENCES) as u64]).guid() }))
        .collect();
    let number = rng.digits(7);
    let synced = !who.guest && rng.chance(80);
    json!({
        "id": id,
        "accountEnabled": rng.chance(96),
        "assignedLicenses": if who.guest { Vec::new() } else { licences },
        "businessPhones": if who.guest { Vec::new() } else { vec![format!("{phone} {number}")] },
        "city": city,
        "createdDateTime": created.seconds(),
        "department": rng.pick(names::DEPARTMENTS),
        "displayName": who.display,
        "employeeId": rng.digits(6).to_string(),
        "givenName": who.given,
        "jobTitle": title(rng),
        "lastPasswordChangeDateTime": World::before(rng, 300).seconds(),
        "mail": who.mail(),
        "manager": { "id": world.id(Users, rng.index(world.anchored(Users))) },
        "mobilePhone": if rng.chance(60) { Some(format!("{phone} {}", rng.digits(7))) } else { None },
        "officeLocation": office(rng),
        "onPremisesLastSyncDateTime": synced.then(|| World::before(rng, 90).seconds()),
        "preferredLanguage": rng.pick(names::LANGUAGES),
        "surname": who.surname,
        "usageLocation": usage,
        "userPrincipalName": who.principal_name(),
        "userType": if who.guest { "Guest" } else { "Member" },
    })
}

fn group(world: &World, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let name = format!("{} {} {}", rng.pick(names::SYSTEMS), rng.pick(names::ENVIRONMENTS), rng.pick(names::PURPOSES));
    let team = rng.pick(names::DEPARTMENTS);
    let number = rng.digits(5);
    let unified = rng.chance(30);
    let nickname = format!("{}-{number}", names::ascii(&name));
    // Most groups are small, a few are not.
    let count = if rng.chance(4) { 10 + rng.index(50) } else { rng.skewed(9) };
    let members: Vec<Value> = (0..count).map(|_| member(world, rng)).collect();
    json!({
        "id": id,
        "createdDateTime": created.seconds(),
        "deletedDateTime": null,
        "description": format!("{name} for {team}"),
        "displayName": format!("{name} {number}"),
        "groupTypes": if unified { vec!["Unified"] } else { Vec::new() },
        "isAssignableToRole": !unified && rng.chance(20),
        "mail": unified.then(|| format!("{nickname}@{}", names::DOMAIN)),
        "mailEnabled": unified,
        "mailNickname": nickname,
        "members": members,
        "membershipRule": null,
        "onPremisesSyncEnabled": null,
        "owners": [member(world, rng)],
        "renewedDateTime": created.seconds(),
        "resourceProvisioningOptions": if unified { vec!["Team"] } else { Vec::new() },
        "securityEnabled": !unified,
        "securityIdentifier": sid(rng),
        "visibility": rng.pick(&["Private", "Private", "Public"]),
    })
}

fn application_name(rng: &mut Rng) -> String {
    format!(
        "{} {} {}",
        rng.pick(names::SYSTEMS),
        rng.pick(&["Connector", "API", "Portal", "Automation", "SSO"]),
        rng.pick(names::ENVIRONMENTS)
    )
}

fn secret(at: Instant, rng: &mut Rng) -> Value {
    json!({
        "customKeyIdentifier": null,
        "displayName": format!("rotated {}", at.date()),
        "endDateTime": Instant(at.0 + 180 * Instant::DAY).seconds(),
        "hint": rng.base64(3),
        "keyId": rng.guid(),
        "startDateTime": at.seconds(),
    })
}

fn service_principal(world: &World, index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let of_application = index < world.len(Applications);
    // Both records of one application take their name from the application's randomness.
    let name = if of_application {
        application_name(&mut world.rng(Applications, index))
    } else {
        format!("mi-{}-{}", names::ascii(rng.pick(names::SYSTEMS)), rng.digits(4))
    };
    let app_id = world.app_id(index);
    let roles: Vec<Value> = (0..if of_application { rng.index(3) } else { 0 })
        .map(|_| json!({ "allowedMemberTypes": ["User"], "displayName": rng.pick(names::PURPOSES), "id": rng.guid(), "isEnabled": true, "value": rng.pick(names::PURPOSES) }))
        .collect();
    json!({
        "id": id,
        "accountEnabled": true,
        "alternativeNames": if of_application { Vec::new() } else { vec![format!("/subscriptions/{}/resourceGroups/rg-{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}", rng.guid(), rng.digits(3))] },
        "appDisplayName": name,
        "appId": app_id,
        "appOwnerOrganizationId": world.tenant,
        "appRoleAssignmentRequired": of_application,
        "appRoles": roles,
        "createdDateTime": created.seconds(),
        "displayName": name,
        "keyCredentials": if of_application && rng.chance(70) { Vec::new() } else { vec![certificate(rng)] },
        "notes": null,
        "oauth2PermissionScopes": [],
        "passwordCredentials": [],
        "preferredSingleSignOnMode": of_application.then_some("oidc"),
        "replyUrls": [],
        "servicePrincipalNames": [app_id],
        "servicePrincipalType": if of_application { "Application" } else { "ManagedIdentity" },
        "signInAudience": "AzureADMyOrg",
        "tags": if of_application { vec!["WindowsAzureActiveDirectoryIntegratedApp"] } else { Vec::new() },
    })
}

fn certificate(rng: &mut Rng) -> Value {
    let start = World::before(rng, 200);
    json!({
        "customKeyIdentifier": format!("{}=", rng.base64(27)),
        "displayName": "CN=automation",
        "endDateTime": Instant(start.0 + 365 * Instant::DAY).seconds(),
        "keyId": rng.guid(),
        "startDateTime": start.seconds(),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    })
}

fn application(world: &World, index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    // The name's draws are the first of this record's after its birth; a service principal repeats them.
    let name = application_name(&mut world.rng(Applications, index));
    let host = format!("{}-{}.{}", names::ascii(&name), rng.digits(4), names::DOMAIN);
    let access: Vec<Value> = (0..=rng.index(3)).map(|_| json!({ "id": rng.guid(), "type": rng.pick(&["Role", "Scope"]) })).collect();
    json!({
        "id": id,
        "appId": world.app_id(index),
        "appRoles": [],
        "createdDateTime": created.seconds(),
        "description": format!("{name}, owned by {}", rng.pick(names::DEPARTMENTS)),
        "displayName": name,
        "identifierUris": [format!("api://{host}")],
        "isFallbackPublicClient": false,
        "keyCredentials": [],
        "owners": [member(world, rng)],
        "passwordCredentials": [secret(World::before(rng, 180), rng)],
        "publisherDomain": names::DOMAIN,
        "requiredResourceAccess": [{ "resourceAccess": access, "resourceAppId": "00000003-0000-0000-c000-000000000000" }],
        "signInAudience": "AzureADMyOrg",
        "tags": [],
        "web": { "homePageUrl": null, "logoutUrl": null, "redirectUris": [format!("https://{host}/signin-oidc")] },
    })
}

/// A principal that exists: mostly a user, sometimes a group or a service principal.
fn principal(world: &World, rng: &mut Rng) -> String {
    let collection = match rng.below(100) {
        0..78 => Users,
        78..93 => Groups,
        _ => ServicePrincipals,
    };
    world.id(collection, world.anchor(rng, collection))
}

/// A role definition that exists; the built-in ones are the most used.
fn role(world: &World, rng: &mut Rng) -> String {
    world.id(RoleDefinitions, rng.skewed(world.len(RoleDefinitions)))
}

/// The tenant, or one resource in it.
fn scope(world: &World, rng: &mut Rng) -> String {
    if rng.chance(85) { "/".to_owned() } else { format!("/{}", world.id(Applications, world.anchor(rng, Applications))) }
}

fn until(end: Instant) -> Value {
    json!({ "duration": null, "endDateTime": end.seconds(), "type": "afterDateTime" })
}

fn schedule(world: &World, collection: Collection, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let expiration = if rng.chance(60) {
        until(World::after(rng, 365))
    } else {
        json!({ "duration": null, "endDateTime": null, "type": "noExpiration" })
    };
    let mut record = json!({
        "id": id,
        "appScopeId": null,
        "createdDateTime": created.millis(),
        "createdUsing": id,
        "directoryScopeId": scope(world, rng),
        "memberType": rng.pick(&["Direct", "Direct", "Direct", "Group"]),
        "modifiedDateTime": null,
        "principalId": principal(world, rng),
        "roleDefinitionId": role(world, rng),
        "scheduleInfo": { "expiration": expiration, "recurrence": null, "startDateTime": created.millis() },
        "status": "Provisioned",
    });
    if collection == AssignmentSchedules {
        record["assignmentType"] = rng.pick(&["Assigned", "Assigned", "Activated"]).into();
    }
    record
}

fn assignment(world: &World, id: &str, rng: &mut Rng) -> Value {
    json!({
        "id": id,
        "appScopeId": null,
        "condition": null,
        "directoryScopeId": scope(world, rng),
        "principalId": principal(world, rng),
        "principalOrganizationId": world.tenant,
        "roleDefinitionId": role(world, rng),
    })
}

/// What a policy is about: a role, or membership or ownership of a group.
fn policy_scope(world: &World, index: usize) -> (&'static str, String, String) {
    let roles = world.len(RoleDefinitions);
    if index < roles {
        return ("DirectoryRole", "/".to_owned(), world.id(RoleDefinitions, index));
    }
    let number = index - roles;
    let access = if number.is_multiple_of(2) { "member" } else { "owner" };
    ("Group", world.id(Groups, number / 2 % world.anchored(Groups)), access.to_owned())
}

fn policy_id(world: &World, index: usize) -> String {
    let (kind, _, _) = policy_scope(world, index);
    format!("{kind}_{}_{}", world.tenant, world.id(Policies, index))
}

fn policy(world: &World, index: usize, id: &str, rng: &mut Rng) -> Value {
    let (kind, scope, _) = policy_scope(world, index);
    json!({
        "id": format!("{kind}_{}_{id}", world.tenant),
        "description": kind,
        "displayName": kind,
        "isOrganizationDefault": false,
        "lastModifiedBy": modified_by(world, rng),
        "lastModifiedDateTime": World::before(rng, 700).millis(),
        "rules": rules(world, rng),
        "scopeId": scope,
        "scopeType": kind,
    })
}

fn policy_assignment(world: &World, index: usize) -> Value {
    let (kind, scope, role) = policy_scope(world, index);
    let policy = policy_id(world, index);
    json!({ "id": format!("{policy}_{role}"), "policyId": policy, "roleDefinitionId": role, "scopeId": scope, "scopeType": kind })
}

/// The seventeen rules of a PIM policy: what administrators and members may do, and who hears of it.
fn rules(world: &World, rng: &mut Rng) -> Vec<Value> {
    let approval = rng.chance(35);
    let approvers: Vec<Value> = (0..if approval { 1 + rng.index(2) } else { 0 })
        .map(|_| {
            let group = world.anchor(rng, Groups);
            json!({ "@odata.type": "#microsoft.graph.groupMembers", "description": "approvers", "groupId": world.id(Groups, group), "isBackup": false })
        })
        .collect();
    let mut rules = Vec::with_capacity(17);
    for (caller, level) in [("Admin", "Eligibility"), ("Admin", "Assignment"), ("EndUser", "Assignment")] {
        let target = json!({ "caller": caller, "enforcedSettings": [], "inheritableSettings": [], "level": level, "operations": ["all"] });
        let rule = |kind: &str, id: String, settings: Value| {
            let mut rule = settings;
            rule["@odata.type"] = format!("#microsoft.graph.unifiedRoleManagementPolicy{kind}Rule").into();
            rule["id"] = id.into();
            rule["target"] = target.clone();
            rule
        };
        let longest = match (caller, level) {
            ("EndUser", _) => hours(rng),
            (_, "Eligibility") => "P365D".to_owned(),
            _ => "P180D".to_owned(),
        };
        let required = caller == "EndUser" || rng.chance(50);
        rules.push(rule(
            "Expiration",
            format!("Expiration_{caller}_{level}"),
            json!({ "isExpirationRequired": required, "maximumDuration": longest }),
        ));
        let enabled: &[&str] = match (caller, level) {
            ("EndUser", _) if rng.chance(40) => &["MultiFactorAuthentication", "Justification", "Ticketing"],
            ("EndUser", _) => &["MultiFactorAuthentication", "Justification"],
            (_, "Assignment") => &["Justification"],
            _ => &[],
        };
        rules.push(rule("Enablement", format!("Enablement_{caller}_{level}"), json!({ "enabledRules": enabled })));
        if caller == "EndUser" {
            let stage = json!({
                "approvalStageTimeOutInDays": 1, "escalationApprovers": [], "escalationTimeInMinutes": 0,
                "isApproverJustificationRequired": true, "isEscalationEnabled": false, "primaryApprovers": approvers,
            });
            let setting = json!({
                "approvalMode": "SingleStage", "approvalStages": [stage], "isApprovalRequired": approval,
                "isApprovalRequiredForExtension": false, "isRequestorJustificationRequired": true,
            });
            rules.push(rule("Approval", "Approval_EndUser_Assignment".to_owned(), json!({ "setting": setting })));
            let context = rng.chance(15);
            rules.push(rule(
                "AuthenticationContext",
                "AuthenticationContext_EndUser_Assignment".to_owned(),
                json!({ "claimValue": context.then_some("c1"), "isEnabled": context }),
            ));
        }
        for recipient in ["Admin", "Requestor", "Approver"] {
            let extra = if rng.chance(10) { vec![person(world.anchor(rng, Users)).mail()] } else { Vec::new() };
            rules.push(rule(
                "Notification",
                format!("Notification_{recipient}_{caller}_{level}"),
                json!({
                    "isDefaultRecipientsEnabled": rng.chance(80), "notificationLevel": rng.pick(&["All", "All", "Critical"]),
                    "notificationRecipients": extra, "notificationType": "Email", "recipientType": recipient,
                }),
            ));
        }
    }
    rules
}

fn conditional_access(world: &World, index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let roles: Vec<String> = (0..rng.index(6)).map(|_| role(world, rng)).collect();
    let excluded: Vec<String> = (0..=rng.index(2)).map(|_| world.id(Groups, world.anchor(rng, Groups))).collect();
    let controls: &[&str] =
        rng.pick(&[&["mfa"] as &[&str], &["block"], &["mfa", "compliantDevice"], &["compliantDevice", "domainJoinedDevice"]]);
    json!({
        "id": id,
        "conditions": {
            "applications": { "excludeApplications": [], "includeApplications": if rng.chance(60) { vec!["All".to_owned()] } else { vec![world.app_id(world.anchor(rng, Applications))] }, "includeUserActions": [] },
            "clientAppTypes": rng.pick(&[&["all"] as &[&str], &["exchangeActiveSync", "other"], &["browser", "mobileAppsAndDesktopClients"]]),
            "locations": { "excludeLocations": [world.id(NamedLocations, rng.index(world.len(NamedLocations)))], "includeLocations": ["All"] },
            "platforms": null,
            "signInRiskLevels": if rng.chance(25) { vec!["high", "medium"] } else { Vec::new() },
            "userRiskLevels": [],
            "users": { "excludeGroups": excluded, "excludeRoles": [], "excludeUsers": [], "includeGroups": [], "includeRoles": roles, "includeUsers": if roles.is_empty() { vec!["All"] } else { Vec::new() } },
        },
        "createdDateTime": created.millis(),
        "displayName": format!("CA{:03} {} for {}", 100 + index, controls.join(" + "), rng.pick(names::PURPOSES)),
        "grantControls": { "builtInControls": controls, "customAuthenticationFactors": [], "operator": "OR", "termsOfUse": [] },
        "modifiedDateTime": World::before(rng, 300).millis(),
        "sessionControls": rng.chance(40).then(|| json!({ "signInFrequency": { "isEnabled": true, "type": "hours", "value": 1 + rng.below(24) } })),
        "state": rng.pick(&["enabled", "enabled", "enabled", "disabled", "enabledForReportingButNotEnforced"]),
    })
}

fn named_location(index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let (city, _, _, country, _, _, _) = names::CITIES[index % names::CITIES.len()];
    if rng.chance(70) {
        let ranges: Vec<Value> = (0..=rng.index(6))
            .map(|_| json!({ "@odata.type": "#microsoft.graph.iPv4CidrRange", "cidrAddress": format!("203.0.{}.{}/28", rng.below(256), rng.below(16) * 16) }))
            .collect();
        json!({
            "@odata.type": "#microsoft.graph.ipNamedLocation", "id": id, "createdDateTime": created.millis(),
            "displayName": format!("{city} offices {}", index + 1), "ipRanges": ranges, "isTrusted": rng.chance(80), "modifiedDateTime": created.millis(),
        })
    } else {
        json!({
            "@odata.type": "#microsoft.graph.countryNamedLocation", "id": id, "countriesAndRegions": [country], "countryLookupMethod": "clientIpAddress",
            "createdDateTime": created.millis(), "displayName": format!("{country} {}", index + 1), "includeUnknownCountriesAndRegions": false, "modifiedDateTime": created.millis(),
        })
    }
}

fn role_definition(index: usize, id: &str, created: Instant, rng: &mut Rng) -> Value {
    let mut actions: Vec<String> = (0..=rng.skewed(40))
        .map(|_| format!("microsoft.directory/{}/{}", rng.pick(names::ROLE_RESOURCES), rng.pick(names::ROLE_VERBS)))
        .collect();
    actions.sort_unstable();
    actions.dedup();
    let (name, privileged, built_in) = match names::ROLES.get(index) {
        Some(&(_, name, privileged)) => (name.to_owned(), privileged, true),
        None => (format!("{} {} {index}", rng.pick(names::DEPARTMENTS), rng.pick(names::PURPOSES)), rng.chance(20), false),
    };
    json!({
        "id": id,
        "description": format!("{name}: {} permitted actions, since {}.", actions.len(), created.date()),
        "displayName": name,
        "isBuiltIn": built_in,
        "isEnabled": true,
        "isPrivileged": privileged,
        "resourceScopes": ["/"],
        "rolePermissions": [{ "allowedResourceActions": actions, "condition": null }],
        "templateId": id,
        "version": "1",
    })
}
