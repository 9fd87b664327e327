//! Users: people of many departments, a few guests, and the two accounts that break the glass.

use super::{Basis, Estate};
use crate::sample::instant::push_seconds;
use crate::sample::kinds::Kind;
use crate::sample::names::{CITIES, DEPARTMENTS, FIRST, LAST, folded};
use crate::sample::record::Object;
use crate::sample::rng::{Rng, hash, push_guid};

/// The tenant's domain.
pub const DOMAIN: &str = "contoso.example";

/// Who a user is, by number alone: logs need it for millions of events, also once the user is gone.
#[derive(Debug, Clone)]
pub struct Person {
    /// The object's id.
    pub id: String,
    /// First name.
    pub given: &'static str,
    /// Last name.
    pub surname: &'static str,
    /// Shown name.
    pub display: String,
    /// What stands before the at sign.
    pub nickname: String,
    /// What one signs in with.
    pub upn: String,
    /// Where the user works.
    pub city: usize,
    /// Comes from another organisation.
    pub guest: bool,
}

/// The `n`th user. The first two break the glass.
pub fn person(basis: &Basis, n: usize) -> Person {
    let id = basis.guid("user", n);
    let city = hash(&[basis.seed, 0xc17, n as u64]) as usize % CITIES.len();
    if n < 2 {
        let nickname = format!("break-glass-{}", n + 1);
        let upn = format!("{nickname}@{DOMAIN}");
        return Person { id, given: "", surname: "", display: format!("Break Glass {}", n + 1), nickname, upn, city: 0, guest: false };
    }
    // All pairs of names in a scattered order; when they are used up, again with a number.
    let pairs = FIRST.len() * LAST.len();
    let scattered = (n.wrapping_mul(7919) + basis.seed as usize % pairs) % pairs;
    let (given, surname) = (FIRST[scattered % FIRST.len()], LAST[scattered / FIRST.len()]);
    let mut nickname = String::with_capacity(24);
    folded(given, &mut nickname);
    nickname.push('.');
    folded(surname, &mut nickname);
    if n >= pairs {
        nickname.push_str(&(n / pairs + 1).to_string());
    }
    let guest = n % 37 == 36;
    let upn = if guest { format!("{nickname}_fabrikam.example#EXT#@{DOMAIN}") } else { format!("{nickname}@{DOMAIN}") };
    Person { id, given, surname, display: format!("{given} {surname}"), nickname, upn, city, guest }
}

pub(super) fn build(estate: &mut Estate) {
    let basis = estate.basis.clone();
    for n in 0..basis.users.max(4) {
        let (id, object) = user(&basis, n);
        estate.table_mut(Kind::Users).put(&id, object, 0);
    }
}

fn user(basis: &Basis, n: usize) -> (String, Object<'static>) {
    let person = person(basis, n);
    let mut rng = Rng::new(&[basis.seed, 0x05e2, n as u64]);
    let glass = n < 2;
    let (department, titles) = rng.pick(&DEPARTMENTS);
    let title = rng.pick(titles);
    let city = &CITIES[person.city];
    let synced = !glass && !person.guest && rng.chance(400);
    let enabled = glass || !rng.chance(30);
    let mut object = Object::with_capacity(1024);
    let text = |object: &mut Object<'static>, name: &'static str, there: bool, text: &str| {
        if there { object.plain(name, text) } else { object.word(name, "null") }
    };
    object.plain("id", &person.id);
    let phone = rng.next();
    if glass || person.guest {
        object.word("businessPhones", "[]");
    } else {
        let number = format!("[\"+1 425 555 {:04}\"]", phone % 10_000);
        object.word("businessPhones", &number);
    }
    object.plain("displayName", &person.display);
    text(&mut object, "givenName", !glass, person.given);
    text(&mut object, "jobTitle", !glass && !person.guest, title);
    let mail = if person.guest { format!("{}@fabrikam.example", person.nickname) } else { person.upn.clone() };
    text(&mut object, "mail", !glass, &mail);
    text(&mut object, "mobilePhone", !glass && phone.is_multiple_of(3), &format!("+1 206 555 {:04}", phone / 7 % 10_000));
    text(&mut object, "officeLocation", !glass && !person.guest, &format!("{} {}/{:03}", city.0, phone % 6 + 1, phone / 11 % 400));
    text(&mut object, "preferredLanguage", !glass && !person.guest, "en-US");
    text(&mut object, "surname", !glass, person.surname);
    object.plain("userPrincipalName", &person.upn);
    object.plain("mailNickname", &person.nickname);
    object.plain("userType", if person.guest { "Guest" } else { "Member" });
    object.word("accountEnabled", if enabled { "true" } else { "false" });
    object.word("onPremisesSyncEnabled", if synced { "true" } else { "null" });
    if synced {
        let json = object.raw("onPremisesImmutableId");
        json.push(b'"');
        push_guid(json, rng.next(), rng.next());
        json.push(b'"');
    } else {
        object.word("onPremisesImmutableId", "null");
    }
    text(&mut object, "externalUserState", person.guest, "Accepted");
    object.plain("usageLocation", city.2);
    text(&mut object, "department", !glass && !person.guest, department);
    text(&mut object, "employeeId", !glass && !person.guest, &format!("E{:07}", n + 1000));
    let json = object.raw("createdDateTime");
    json.push(b'"');
    push_seconds(json, basis.before(1, n, 2500));
    json.push(b'"');
    object.word("deletedDateTime", "null");
    text(&mut object, "companyName", !glass, if person.guest { "Fabrikam" } else { "Contoso" });
    object.plain("city", city.0);
    (person.id, object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nobody_shares_a_name_to_sign_in_with() {
        let basis = Basis { seed: 5, users: 50_000, start: 1_700_000_000_000_000_000, tenant: String::new() };
        let names: HashSet<String> = (0..50_000).map(|n| person(&basis, n).upn).collect();
        assert_eq!(names.len(), 50_000);
        assert!(names.iter().all(|n| n.is_ascii()));
    }
}
