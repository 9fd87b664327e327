//! Groups and who is in them, applications, service principals, administrative units, and the tenant itself.

use serde_json::{Value, json};

use super::{DOMAIN, Estate, Member};
use crate::sample::instant::seconds_text;
use crate::sample::kinds::Kind;
use crate::sample::names::{APPLICATIONS, CITIES, DEPARTMENTS};
use crate::sample::rng::{Rng, hash};

/// Groups that every tenant has, before those of departments.
const FIXED: [(&str, &str, bool); 10] = [
    ("Break Glass Accounts", "Accounts that no conditional access policy may lock out", true),
    ("PIM Approvers", "Approve activations of privileged roles", true),
    ("Tier 0 Administrators", "Eligible for the roles that rule the tenant", true),
    ("Tier 1 Administrators", "Eligible for roles of services", true),
    ("Helpdesk", "First line of support", true),
    ("Security Operations", "Watch and respond", true),
    ("Azure Platform Team", "Own the landing zones", true),
    ("Cloud Auditors", "Read everything, change nothing", true),
    ("Conditional Access Exclusions", "Temporary exclusions, reviewed monthly", false),
    ("All Contractors", "External workforce", false),
];

/// The place of the group that may break the glass.
pub const GLASS: usize = 0;
/// The place of the group that approves.
pub const APPROVERS: usize = 1;
/// Groups with places below this are assignable to roles.
pub const ASSIGNABLE: usize = 8;
/// The group that conditional access leaves out for a while.
pub const EXCLUDED: usize = 8;

/// How many groups a tenant has.
pub fn groups(users: usize) -> usize {
    (users / 20).max(FIXED.len() + 4)
}

/// How many applications a tenant has.
pub fn applications(users: usize) -> usize {
    (users / 100).max(10)
}

pub(super) fn build(estate: &mut Estate) {
    build_applications(estate);
    build_groups(estate);
    build_units(estate);
    organization(estate);
}

fn build_groups(estate: &mut Estate) {
    let (seed, users) = (estate.basis.seed, estate.table(Kind::Users).entries().len());
    let services = estate.table(Kind::ServicePrincipals).entries().len();
    let count = groups(users);
    let mut members: Vec<Vec<Member>> = vec![Vec::new(); count];
    members[GLASS] = vec![Member::new(Kind::Users, 0), Member::new(Kind::Users, 1)];
    let user = |rng: &mut Rng| Member::new(Kind::Users, 2 + rng.below(users - 2));
    for (place, list) in members.iter_mut().enumerate().take(FIXED.len()).skip(1) {
        let mut rng = Rng::new(&[seed, 0x960, place as u64]);
        let size = if place == APPROVERS { 3 } else { 4 + rng.below(9) };
        for _ in 0..size {
            let member = user(&mut rng);
            if !list.contains(&member) {
                list.push(member);
            }
        }
    }
    // Each user is in about three of the other groups; low places are larger, as groups are in life.
    for n in 2..users {
        let mut rng = Rng::new(&[seed, 0x3e3, n as u64]);
        let member = Member::new(Kind::Users, n);
        for _ in 0..3 {
            let room = count - FIXED.len();
            let within = if rng.chance(300) { (room / 8).max(1) } else { room };
            let list = &mut members[FIXED.len() + rng.below(within)];
            if list.last() != Some(&member) {
                list.push(member);
            }
        }
    }
    for (place, list) in members.into_iter().enumerate() {
        let mut rng = Rng::new(&[seed, 0x0e5, place as u64]);
        let (id, value) = group(estate, place);
        estate.put(Kind::Groups, &id, &value);
        let mut list = list;
        if place >= FIXED.len() && rng.chance(60) && services > 0 {
            list.push(Member::new(Kind::ServicePrincipals, rng.below(services)));
        }
        if place > FIXED.len() + 2 && rng.chance(50) {
            list.push(Member::new(Kind::Groups, FIXED.len() + rng.below(place - FIXED.len())));
        }
        let owners = (0..1 + rng.below(2)).map(|_| user(&mut rng)).collect::<std::collections::BTreeSet<_>>();
        estate.set_people(place, list, owners.into_iter().collect());
    }
}

fn group(estate: &Estate, place: usize) -> (String, Value) {
    let basis = &estate.basis;
    let mut rng = Rng::new(&[basis.seed, 0x6e0, place as u64]);
    let id = basis.guid("group", place);
    let fixed = FIXED.get(place);
    let (city, department) = (CITIES[place % CITIES.len()].0, DEPARTMENTS[place / CITIES.len() % DEPARTMENTS.len()].0);
    let round = place / (CITIES.len() * DEPARTMENTS.len());
    let name = match fixed {
        Some((name, ..)) => (*name).to_owned(),
        None if round == 0 => format!("{department} {city}"),
        None => format!("{department} {city} {}", round + 1),
    };
    let unified = fixed.is_none() && rng.chance(450);
    let dynamic = fixed.is_none() && !unified && rng.chance(60);
    let nickname: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let types: Vec<&str> = [(unified, "Unified"), (dynamic, "DynamicMembership")].iter().filter(|t| t.0).map(|t| t.1).collect();
    let value = json!({
        "id": id, "displayName": name,
        "description": fixed.map_or_else(|| format!("People of {department} in {city}"), |f| f.1.to_owned()),
        "mail": unified.then(|| format!("{}@{DOMAIN}", nickname.to_lowercase())),
        "mailNickname": nickname, "mailEnabled": unified, "securityEnabled": !unified, "groupTypes": types,
        "membershipRule": dynamic.then(|| format!("(user.department -eq \"{department}\") and (user.city -eq \"{city}\")")),
        "membershipRuleProcessingState": dynamic.then_some("On"),
        "isAssignableToRole": if fixed.is_some_and(|f| f.2) { json!(true) } else { Value::Null },
        "visibility": if unified { json!("Private") } else { Value::Null },
        "classification": null, "onPremisesSyncEnabled": if fixed.is_none() && !unified && !dynamic && rng.chance(300) { json!(true) } else { Value::Null },
        "uniqueName": null, "createdDateTime": seconds_text(basis.before(2, place, 2000)), "deletedDateTime": null,
        "renewedDateTime": seconds_text(basis.before(3, place, 300)),
        "securityIdentifier": format!("S-1-12-1-{}-{}-{}-{}", rng.next() as u32, rng.next() as u32, rng.next() as u32, rng.next() as u32),
        "proxyAddresses": if unified { vec![format!("SMTP:{}@{DOMAIN}", nickname.to_lowercase())] } else { Vec::new() },
    });
    (id, value)
}

fn build_applications(estate: &mut Estate) {
    let basis = estate.basis.clone();
    for n in 0..applications(basis.users) {
        let mut rng = Rng::new(&[basis.seed, 0xa99, n as u64]);
        let (id, app_id, service) = (basis.guid("application", n), basis.guid("appId", n), basis.guid("servicePrincipal", n));
        let round = n / APPLICATIONS.len();
        let name = APPLICATIONS[n % APPLICATIONS.len()];
        let name = if round == 0 { name.to_owned() } else { format!("{name} {}", round + 1) };
        let host = name.to_lowercase().replace(' ', "-");
        let created = basis.before(4, n, 1800);
        let credentials: Vec<Value> = (0..rng.below(3))
            .map(|k| {
                let from = created + (k as i64 + 1) * 86_400_000_000_000;
                json!({
                    "customKeyIdentifier": null, "displayName": format!("secret {}", k + 1), "endDateTime": seconds_text(from + 730 * 86_400_000_000_000),
                    "hint": format!("{:03x}", rng.next() % 4096), "keyId": basis.guid("credential", n * 8 + k), "secretText": null,
                    "startDateTime": seconds_text(from),
                })
            })
            .collect();
        let role = json!({
            "allowedMemberTypes": ["Application"], "description": "Read records", "displayName": "Records.Read", "id": basis.guid("appRole", n),
            "isEnabled": true, "origin": "Application", "value": "Records.Read.All",
        });
        let roles = if rng.chance(300) { json!([role]) } else { json!([]) };
        let application = json!({
            "id": id, "appId": app_id, "displayName": name, "createdDateTime": seconds_text(created), "deletedDateTime": null, "description": null,
            "identifierUris": [format!("api://{app_id}")], "publisherDomain": DOMAIN, "signInAudience": "AzureADMyOrg", "tags": [],
            "appRoles": roles, "api": {"acceptMappedClaims": null, "knownClientApplications": [], "oauth2PermissionScopes": [], "preAuthorizedApplications": [], "requestedAccessTokenVersion": 2},
            "keyCredentials": [], "passwordCredentials": credentials, "groupMembershipClaims": null, "isFallbackPublicClient": false, "notes": null,
            "optionalClaims": null, "uniqueName": null,
            "requiredResourceAccess": [{"resourceAppId": "00000003-0000-0000-c000-000000000000", "resourceAccess": [{"id": "df021288-bdef-4463-88db-98f22de89214", "type": "Role"}]}],
            "web": {"homePageUrl": null, "implicitGrantSettings": {"enableAccessTokenIssuance": false, "enableIdTokenIssuance": false}, "logoutUrl": null, "redirectUris": [format!("https://{host}.{DOMAIN}/callback")]},
            "spa": {"redirectUris": []}, "publicClient": {"redirectUris": []}, "info": {"logoUrl": null, "marketingUrl": null, "privacyStatementUrl": null, "supportUrl": null, "termsOfServiceUrl": null},
            "verifiedPublisher": {"addedDateTime": null, "displayName": null, "verifiedPublisherId": null},
        });
        let principal = json!({
            "id": service, "appId": app_id, "displayName": name, "appDisplayName": name, "accountEnabled": true, "alternativeNames": [],
            "appDescription": null, "appOwnerOrganizationId": basis.tenant, "appRoleAssignmentRequired": rng.chance(400), "appRoles": roles,
            "createdDateTime": seconds_text(created), "deletedDateTime": null, "description": null, "homepage": null, "keyCredentials": [],
            "loginUrl": null, "logoutUrl": null, "notes": null, "oauth2PermissionScopes": [], "passwordCredentials": [],
            "preferredSingleSignOnMode": null, "replyUrls": [format!("https://{host}.{DOMAIN}/callback")],
            "servicePrincipalNames": [app_id, format!("api://{app_id}")], "servicePrincipalType": "Application", "signInAudience": "AzureADMyOrg",
            "tags": ["WindowsAzureActiveDirectoryIntegratedApp"], "tokenEncryptionKeyId": null,
            "verifiedPublisher": {"addedDateTime": null, "displayName": null, "verifiedPublisherId": null},
        });
        estate.put(Kind::Applications, &id, &application);
        estate.put(Kind::ServicePrincipals, &service, &principal);
    }
}

fn build_units(estate: &mut Estate) {
    let basis = estate.basis.clone();
    for (n, city) in CITIES.iter().enumerate() {
        let id = basis.guid("administrativeUnit", n);
        let value = json!({
            "id": id, "displayName": format!("{} Site", city.0), "description": format!("People and devices of the site in {}", city.0),
            "deletedDateTime": null, "visibility": null, "isMemberManagementRestricted": n == 0, "membershipType": "Assigned",
            "membershipRule": null, "membershipRuleProcessingState": null,
        });
        estate.put(Kind::AdministrativeUnits, &id, &value);
    }
}

fn organization(estate: &mut Estate) {
    let basis = estate.basis.clone();
    let bought = seconds_text(basis.before(5, 0, 1000));
    let plan = |service: &str, n: usize| json!({"assignedDateTime": bought, "capabilityStatus": "Enabled", "service": service, "servicePlanId": basis.guid("plan", n)});
    let used = hash(&[basis.seed, 0x0f6]) % 200 + basis.users as u64;
    let value = json!({
        "id": basis.tenant, "displayName": "Contoso", "tenantType": "AAD", "createdDateTime": seconds_text(basis.before(6, 0, 3000)), "deletedDateTime": null,
        "businessPhones": ["425-555-0100"], "city": "Zurich", "country": null, "countryLetterCode": "CH", "postalCode": null, "state": null, "street": null,
        "preferredLanguage": "en", "defaultUsageLocation": null, "marketingNotificationEmails": [], "technicalNotificationMails": [format!("it@{DOMAIN}")],
        "securityComplianceNotificationMails": [format!("security@{DOMAIN}")], "securityComplianceNotificationPhones": [],
        "onPremisesSyncEnabled": true, "onPremisesLastSyncDateTime": seconds_text(basis.start - 1_500_000_000_000), "partnerTenantType": null,
        "mobileDeviceManagementAuthority": "intune", "directorySizeQuota": {"total": 300_000_usize.max(basis.users * 2), "used": used},
        "privacyProfile": {"contactEmail": format!("privacy@{DOMAIN}"), "statementUrl": format!("https://www.{DOMAIN}/privacy")},
        "assignedPlans": [plan("AADPremiumService", 0), plan("exchange", 1), plan("MultiFactorService", 2)],
        "provisionedPlans": [{"capabilityStatus": "Enabled", "provisioningStatus": "Success", "service": "exchange"}],
        "verifiedDomains": [
            {"capabilities": "Email, OfficeCommunicationsOnline", "isDefault": true, "isInitial": false, "name": DOMAIN, "type": "Managed"},
            {"capabilities": "None", "isDefault": false, "isInitial": true, "name": "contoso.onmicrosoft.example", "type": "Managed"},
        ],
    });
    estate.put(Kind::Organization, &basis.tenant, &value);
}
