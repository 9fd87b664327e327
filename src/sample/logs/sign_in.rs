//! Sign-ins, written field by field: there may be millions in a request's window.

use super::{Event, Source, push_id};
use crate::sample::estate::{Basis, POLICIES, person};
use crate::sample::instant::{push_seconds, seconds_text};
use crate::sample::names::{APPLICATIONS, CITIES, RESOURCES, SIGN_IN_APPS};
use crate::sample::rng::{Rng, push_guid};

/// How a sign-in ended: code, reason, details, per mille.
const ENDS: [(u32, &str, &str, u64); 5] = [
    (50126, "Error validating credentials due to invalid username or password.", "The user didn't enter the right credentials.", 40),
    (
        50076,
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
        "MFA required",
        30,
    ),
    (
        53003,
        "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
        "blocked by policy",
        15,
    ),
    (50053, "The account is locked, you've tried to sign in too many times with an incorrect user ID or password.", "account locked", 8),
    (65001, "The user or administrator has not consented to use the application.", "consent missing", 7),
];

const SYSTEMS: [(&str, &str, &str); 5] = [
    (
        "Windows 11",
        "Edge 129.0.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36 Edg/129.0.0.0",
    ),
    (
        "Windows 10",
        "Chrome 129.0.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    ),
    (
        "MacOs",
        "Safari 17.6",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15",
    ),
    (
        "Ios 17.6",
        "Mobile Safari",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
    ),
    ("Linux", "Firefox 130.0", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"),
];

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn word(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.as_bytes());
}

fn id(out: &mut Vec<u8>, name: &str, rng: &mut Rng) {
    text(out, name, "");
    out.pop();
    push_guid(out, rng.next(), rng.next());
    out.push(b'"');
}

fn nullable(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => text(out, name, value),
        None => word(out, name, "null"),
    }
}

pub(super) fn write(basis: &Basis, policies: &[String], services: usize, event: &Event, second: bool, beta: bool, out: &mut Vec<u8>) {
    let mut rng = Rng::new(&[event.draw, 0x516e]);
    let of_user = matches!(event.source, Source::InteractiveSignIns | Source::NonInteractiveSignIns);
    // What changes later looks unfinished at first.
    let open = event.again.is_some() && !second;
    let risky = event.again.is_some() && second && event.draw.is_multiple_of(2);
    let roll = rng.next() % 1000;
    let mut bound = 0;
    let end = ENDS.iter().find(|e| {
        bound += e.3;
        roll < bound
    });
    let end = if open {
        Some(&ENDS[1])
    } else if event.again.is_some() {
        None
    } else {
        end
    };
    out.extend_from_slice(b"{\"id\":\"");
    push_id(event, out);
    out.extend_from_slice(b"\",\"createdDateTime\":\"");
    push_seconds(out, event.time);
    out.push(b'"');
    let mut city = rng.below(CITIES.len());
    let mut user = String::new();
    if of_user {
        let person = person(basis, rng.below(basis.users.max(4)));
        text(out, "userDisplayName", &person.display);
        text(out, "userPrincipalName", &person.upn);
        text(out, "userId", &person.id);
        if rng.chance(930) {
            city = person.city;
        }
        user = person.upn;
    } else {
        text(out, "userDisplayName", "");
        text(out, "userPrincipalName", "");
        text(out, "userId", "00000000-0000-0000-0000-000000000000");
    }
    let service = rng.below(services);
    let app = rng.pick(&SIGN_IN_APPS);
    if of_user {
        text(out, "appId", app.1);
        text(out, "appDisplayName", app.0);
    } else {
        text(out, "appId", &basis.guid("appId", service));
        text(out, "appDisplayName", APPLICATIONS[service % APPLICATIONS.len()]);
    }
    let (city, system, resource) = (&CITIES[city], rng.pick(&SYSTEMS), rng.pick(&RESOURCES));
    let address = rng.next() % 254 + 1;
    text(out, "ipAddress", city.5);
    out.pop();
    out.extend_from_slice(format!(".{address}\"").as_bytes());
    text(
        out,
        "clientAppUsed",
        if !of_user {
            ""
        } else if event.source == Source::InteractiveSignIns {
            "Browser"
        } else {
            "Mobile Apps and Desktop clients"
        },
    );
    id(out, "correlationId", &mut rng);
    let access = match end {
        Some((53003 | 50076, ..)) => "failure",
        _ if of_user => "success",
        _ => "notApplied",
    };
    text(out, "conditionalAccessStatus", access);
    word(out, "isInteractive", if event.source == Source::InteractiveSignIns { "true" } else { "false" });
    text(out, "riskDetail", "none");
    text(out, "riskLevelAggregated", if risky { "medium" } else { "none" });
    text(out, "riskLevelDuringSignIn", if risky { "medium" } else { "none" });
    text(out, "riskState", if risky { "atRisk" } else { "none" });
    let risks = if risky { "[\"unfamiliarFeatures\"]" } else { "[]" };
    word(out, "riskEventTypes", risks);
    word(out, "riskEventTypes_v2", risks);
    text(out, "resourceDisplayName", resource.0);
    text(out, "resourceId", resource.1);
    out.extend_from_slice(b",\"status\":{\"errorCode\":");
    match end {
        Some((code, reason, details, _)) => {
            out.extend_from_slice(code.to_string().as_bytes());
            text(out, "failureReason", reason);
            text(out, "additionalDetails", details);
        }
        None => {
            out.push(b'0');
            text(out, "failureReason", "Other.");
            nullable(out, "additionalDetails", of_user.then_some("MFA requirement satisfied by claim in the token"));
        }
    }
    out.extend_from_slice(b"},\"deviceDetail\":{\"deviceId\":\"\"");
    nullable(out, "displayName", None);
    nullable(out, "operatingSystem", of_user.then_some(system.0));
    nullable(out, "browser", of_user.then_some(system.1));
    word(out, "isCompliant", if rng.chance(700) { "true" } else { "null" });
    word(out, "isManaged", if rng.chance(700) { "true" } else { "null" });
    nullable(out, "trustType", rng.chance(500).then_some("Azure AD joined"));
    out.extend_from_slice(b"},\"location\":{\"city\":\"");
    out.extend_from_slice(city.0.as_bytes());
    out.push(b'"');
    text(out, "state", city.1);
    text(out, "countryOrRegion", city.2);
    out.extend_from_slice(b",\"geoCoordinates\":{\"altitude\":null");
    word(out, "latitude", city.3);
    word(out, "longitude", city.4);
    out.extend_from_slice(b"}},\"appliedConditionalAccessPolicies\":[");
    if of_user {
        for (n, at) in [3, 2, rng.below(3) + 4].into_iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"id\":\"");
            out.extend_from_slice(policies[at].as_bytes());
            out.push(b'"');
            text(out, "displayName", POLICIES[at]);
            word(out, "enforcedGrantControls", if n == 0 { "[\"Mfa\"]" } else { "[]" });
            word(out, "enforcedSessionControls", "[]");
            text(out, "result", if n == 0 { access } else { "notApplied" });
            out.push(b'}');
        }
    }
    out.push(b']');
    if beta {
        write_beta(basis, event, &user, service, end.is_none(), system.2, &mut rng, out);
    }
    out.push(b'}');
}

/// What only the newer version of the interface tells.
#[expect(clippy::too_many_arguments, reason = "the parts of one record, drawn once")]
fn write_beta(basis: &Basis, event: &Event, user: &str, service: usize, good: bool, agent: &str, rng: &mut Rng, out: &mut Vec<u8>) {
    let of_user = !user.is_empty();
    word(out, "signInEventTypes", "[\"");
    out.extend_from_slice(event.source.event_type().as_bytes());
    out.extend_from_slice(b"\"]");
    text(out, "userType", if user.contains("#EXT#") { "guest" } else { "member" });
    nullable(out, "userAgent", of_user.then_some(agent));
    text(out, "signInIdentifier", user);
    text(out, "homeTenantId", &basis.tenant);
    text(out, "resourceTenantId", &basis.tenant);
    text(out, "tokenIssuerName", "");
    text(out, "tokenIssuerType", "AzureAD");
    text(out, "crossTenantAccessType", "none");
    text(out, "authenticationProtocol", "oAuth2");
    text(out, "authenticationRequirement", if of_user { "multiFactorAuthentication" } else { "singleFactorAuthentication" });
    text(out, "incomingTokenType", if event.source == Source::NonInteractiveSignIns { "primaryRefreshToken" } else { "none" });
    word(out, "processingTimeInMilliseconds", &(rng.next() % 900 + 60).to_string());
    word(out, "autonomousSystemNumber", "64496");
    word(out, "flaggedForReview", "false");
    id(out, "originalRequestId", rng);
    id(out, "uniqueTokenIdentifier", rng);
    id(out, "resourceServicePrincipalId", rng);
    if of_user {
        text(out, "servicePrincipalId", "");
        word(out, "servicePrincipalName", "null");
        word(out, "servicePrincipalCredentialKeyId", "null");
    } else {
        text(out, "servicePrincipalId", &basis.guid("servicePrincipal", service));
        text(out, "servicePrincipalName", APPLICATIONS[service % APPLICATIONS.len()]);
        id(out, "servicePrincipalCredentialKeyId", rng);
    }
    out.extend_from_slice(b",\"authenticationDetails\":[");
    if of_user {
        out.extend_from_slice(b"{\"authenticationStepDateTime\":\"");
        out.extend_from_slice(seconds_text(event.time).as_bytes());
        out.push(b'"');
        text(out, "authenticationMethod", "Password");
        text(out, "authenticationMethodDetail", "Password in the cloud");
        word(out, "succeeded", if good { "true" } else { "false" });
        text(out, "authenticationStepResultDetail", if good { "Correct password" } else { "Invalid username or password" });
        text(out, "authenticationStepRequirement", "Primary authentication");
        out.push(b'}');
    }
    out.push(b']');
    for name in [
        "authenticationMethodsUsed",
        "authenticationProcessingDetails",
        "authenticationRequirementPolicies",
        "networkLocationDetails",
        "sessionLifetimePolicies",
        "authenticationContextClassReferences",
    ] {
        word(out, name, "[]");
    }
}
