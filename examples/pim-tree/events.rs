//! Log events, one a line: sign-ins and directory audits about the users of a world. Their instants
//! ascend with a jitter, as events of a distributed service do; no id comes twice.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::documents::person;
use crate::names;
use crate::rng::{Instant, Rng};
use crate::world::Collection::{Applications, Groups, RoleDefinitions, Users};
use crate::world::{World, purpose};

/// Writes `count` events; returns the bytes written.
pub fn write(world: &World, count: u64, out: &mut impl Write) -> io::Result<u64> {
    let mut clock = World::on_day(0, &mut Rng::keyed(&[world.seed, purpose::EVENT])).0;
    let mut bytes = 0;
    for number in 0..count {
        let mut rng = Rng::keyed(&[world.seed, purpose::EVENT, number]);
        clock += rng.below(160);
        let at = Instant(clock + rng.below(4_000));
        let mut event = if rng.chance(72) { sign_in(world, at, &mut rng) } else { audit(world, at, &mut rng) };
        event.sort_all_objects();
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        out.write_all(&line)?;
        bytes += line.len() as u64;
    }
    Ok(bytes)
}

/// An address that a user keeps for a while.
fn address(user: usize, rng: &mut Rng) -> String {
    let mut home = Rng::keyed(&[user as u64, rng.below(3)]);
    format!("{}.{}.{}.{}", 20 + home.below(180), home.below(256), home.below(256), 1 + home.below(254))
}

fn sign_in(world: &World, at: Instant, rng: &mut Rng) -> Value {
    let user = world.anchor(rng, Users);
    let who = person(user);
    let app = rng.skewed(world.anchored(Applications));
    let mut home = Rng::keyed(&[user as u64]);
    let (city, state, _, country, _, latitude, longitude) = home.pick(names::CITIES);
    let system = home.pick(names::OPERATING_SYSTEMS);
    let device = home.guid();
    let failure = rng.chance(7).then(|| rng.pick(names::FAILURES));
    json!({
        "id": rng.guid(),
        "createdDateTime": at.millis(),
        "appDisplayName": names::SYSTEMS[app % names::SYSTEMS.len()],
        "appId": world.app_id(app),
        "clientAppUsed": names::CLIENTS[rng.skewed(names::CLIENTS.len())],
        "conditionalAccessStatus": if failure.is_some_and(|(code, _)| code == 53003) { "failure" } else { "success" },
        "correlationId": rng.guid(),
        "deviceDetail": { "browser": home.pick(names::BROWSERS), "deviceId": device, "isCompliant": rng.chance(90), "isManaged": true, "operatingSystem": system, "trustType": "Azure AD joined" },
        "ipAddress": address(user, rng),
        "isInteractive": rng.chance(70),
        "location": { "city": city, "countryOrRegion": country, "geoCoordinates": { "latitude": latitude, "longitude": longitude }, "state": state },
        "resourceDisplayName": "Microsoft Graph",
        "resourceId": "00000003-0000-0000-c000-000000000000",
        "riskDetail": "none",
        "riskLevelDuringSignIn": if rng.chance(2) { "medium" } else { "none" },
        "riskState": "none",
        "status": { "additionalDetails": "MFA requirement satisfied by claim in the token", "errorCode": failure.map_or(0, |(code, _)| code), "failureReason": failure.map_or("Other.", |(_, reason)| reason) },
        "userDisplayName": who.display,
        "userId": world.id(Users, user),
        "userPrincipalName": who.principal_name(),
    })
}

fn audit(world: &World, at: Instant, rng: &mut Rng) -> Value {
    let by = world.anchor(rng, Users);
    let whom = world.anchor(rng, Users);
    let (service, category, activity, operation, kind) = rng.pick(names::ACTIVITIES);
    let target = match kind {
        "Role" | "Policy" => world.id(RoleDefinitions, rng.skewed(world.len(RoleDefinitions))),
        "Group" => world.id(Groups, world.anchor(rng, Groups)),
        "Application" => world.id(Applications, world.anchor(rng, Applications)),
        _ => world.id(Users, whom),
    };
    json!({
        "id": format!("{service}_{}_{}", rng.guid(), rng.digits(8)),
        "createdDateTime": at.millis(),
        "activityDateTime": at.millis(),
        "activityDisplayName": activity,
        "additionalDetails": [{ "key": "StartTime", "value": at.seconds() }, { "key": "Justification", "value": format!("CHG{} {}", rng.digits(7), rng.pick(names::SYSTEMS)) }],
        "category": category,
        "correlationId": rng.guid(),
        "initiatedBy": { "app": null, "user": { "displayName": person(by).display, "id": world.id(Users, by), "ipAddress": address(by, rng), "userPrincipalName": person(by).principal_name() } },
        "loggedByService": service,
        "operationType": operation,
        "result": if rng.chance(95) { "success" } else { "failure" },
        "resultReason": null,
        "targetResources": [
            { "displayName": null, "id": target, "modifiedProperties": [{ "displayName": "RoleDefinitionOriginType", "newValue": "\"BuiltInRole\"", "oldValue": null }], "type": kind },
            { "displayName": person(whom).display, "id": world.id(Users, whom), "modifiedProperties": [], "type": "User", "userPrincipalName": person(whom).principal_name() },
        ],
    })
}
