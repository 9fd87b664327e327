//! Which changes somebody should look at first: the catalog's rules, held against one record's difference.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Change;
use super::attributes::AttributeChange;
use crate::source::catalog::{Attention, Happening, Pattern, Refers, escape};

/// What people are to be told of a change, in the order of the rules. `holds` says whether a record that this one
/// refers to, on either side, is as a rule wants it.
pub(super) fn of(
    rules: &[Attention],
    change: Change,
    attributes: &[AttributeChange],
    sides: [Option<&Value>; 2],
    holds: impl Fn(&Refers) -> bool,
) -> Vec<String> {
    // A record that came or went is one attribute that did, so that rules see what it brought or took along.
    let whole;
    let attributes = match change {
        Change::Changed => attributes,
        Change::Added | Change::Removed => {
            whole = [AttributeChange::new("", sides[0].cloned(), sides[1].cloned())];
            &whole
        }
    };
    let happening = match change {
        Change::Added => Happening::Added,
        Change::Removed => Happening::Removed,
        Change::Changed => Happening::Changed,
    };
    let mut out: Vec<String> = Vec::new();
    for rule in rules {
        let happened = match &rule.at {
            None => allows(rule, happening),
            Some(at) => attributes.iter().any(|attribute| fits(rule, at, attribute)),
        };
        if happened && !out.contains(&rule.say) && rule.refers.as_ref().is_none_or(&holds) {
            out.push(rule.say.clone());
        }
    }
    out
}

fn allows(rule: &Attention, happening: Happening) -> bool {
    rule.when.is_empty() || rule.when.contains(&happening)
}

fn fits(rule: &Attention, at: &Pattern, attribute: &AttributeChange) -> bool {
    let (from, to) = (attribute.from.as_ref(), attribute.to.as_ref());
    if let Some(lost) = &rule.lost
        && attribute.set.as_deref().is_some_and(|set| at.fits(set))
    {
        // A set tells its elements one by one.
        return allows(rule, Happening::Changed) && from == Some(lost) && to.is_none();
    }
    if at.covers(&attribute.pointer) && !at.fits(&attribute.pointer) {
        let any = [&rule.from, &rule.to, &rule.lost].iter().all(|value| value.is_none());
        return any && allows(rule, Happening::Changed);
    }
    let mut found = false;
    places(at, &mut attribute.pointer.clone(), from, to, &mut |from, to| found = found || fits_here(rule, from, to));
    found
}

fn fits_here(rule: &Attention, from: Option<&Value>, to: Option<&Value>) -> bool {
    let happening = match (from, to) {
        (None, Some(_)) => Happening::Added,
        (Some(_), None) => Happening::Removed,
        _ => Happening::Changed,
    };
    let has = |side: Option<&Value>, wanted: &Value| match side {
        Some(Value::Array(list)) => list.contains(wanted),
        other => other == Some(wanted),
    };
    from != to
        && allows(rule, happening)
        && rule.from.as_ref().is_none_or(|wanted| from == Some(wanted))
        && rule.to.as_ref().is_none_or(|wanted| to == Some(wanted))
        && rule.lost.as_ref().is_none_or(|wanted| has(from, wanted) && !has(to, wanted))
}

type Place<'p> = dyn FnMut(Option<&Value>, Option<&Value>) + 'p;

/// Gives what stood and what stands at the pattern's places, at a pointer or below it.
fn places(at: &Pattern, pointer: &mut String, from: Option<&Value>, to: Option<&Value>, each: &mut Place<'_>) {
    if at.fits(pointer) {
        return each(from, to);
    }
    if pointer.matches('/').count() >= at.depth() {
        return;
    }
    let length = pointer.len();
    let mut steps = BTreeSet::new();
    for side in [from, to].into_iter().flatten() {
        match side {
            Value::Object(map) => steps.extend(map.keys().cloned()),
            Value::Array(list) => steps.extend((0..list.len()).map(|n| n.to_string())),
            _ => {}
        }
    }
    for step in steps {
        pointer.push('/');
        pointer.push_str(&escape(&step));
        places(at, pointer, below(from, &step), below(to, &step), each);
        pointer.truncate(length);
    }
}

fn below<'v>(side: Option<&'v Value>, step: &str) -> Option<&'v Value> {
    match side? {
        Value::Object(map) => map.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::diff::attributes::of_values;
    use crate::source::catalog::{Catalog, CollectionSpec};
    use serde_json::json;

    fn spec(collection: &str) -> &'static CollectionSpec {
        Catalog::all().collection(collection).unwrap()
    }

    fn changed(collection: &str, a: Value, b: Value) -> Vec<String> {
        let spec = spec(collection);
        of(&spec.attention, Change::Changed, &of_values(&spec.sets, &a, &b), [Some(&a), Some(&b)], |_| false)
    }

    fn policy(enabled: Value, approval: bool) -> Value {
        json!({"rules": [{"id": "Enablement", "enabledRules": enabled}, {"id": "Approval", "setting": {"isApprovalRequired": approval}}]})
    }

    #[test]
    fn a_pim_policy_that_asks_for_less() {
        let (mfa, approval) = ("multi-factor authentication is no longer required", "approval is no longer required");
        let both = policy(json!(["Justification", "MultiFactorAuthentication"]), true);
        let of = |b: Value| changed("entra.roleManagementPolicies", both.clone(), b);
        assert_eq!(of(policy(json!(["Justification"]), true)), [mfa]);
        assert_eq!(of(policy(json!(["MultiFactorAuthentication"]), true)), Vec::<String>::new());
        assert_eq!(of(policy(json!(["Justification", "MultiFactorAuthentication"]), false)), [approval]);
        assert_eq!(of(policy(json!(null), false)), [mfa, approval]);
        assert_eq!(of(json!({"rules": []})), [mfa, approval], "rules that are gone ask for nothing");
        assert_eq!(
            changed("entra.roleManagementPolicies", policy(json!([]), false), both.clone()),
            Vec::<String>::new(),
            "more is asked for"
        );
        let arm = |p: Value| json!({"properties": p});
        assert_eq!(changed("arm.roleManagementPolicies", arm(both.clone()), arm(policy(json!([]), false))), [mfa, approval]);
    }

    #[test]
    fn new_credentials() {
        let say = ["a new secret can sign in as it"];
        let (none, one) = (json!({"passwordCredentials": []}), json!({"passwordCredentials": [{"keyId": "1", "hint": "a"}]}));
        assert_eq!(changed("entra.applications", none.clone(), one.clone()), say);
        assert_eq!(changed("entra.applications", one.clone(), none.clone()), Vec::<String>::new());
        let renamed = json!({"passwordCredentials": [{"keyId": "1", "hint": "b"}]});
        assert_eq!(changed("entra.applications", one.clone(), renamed), Vec::<String>::new(), "no new one");
        let rules = &spec("entra.applications").attention;
        assert_eq!(of(rules, Change::Added, &[], [None, Some(&one)], |_| false), say);
        assert_eq!(of(rules, Change::Added, &[], [None, Some(&none)], |_| false), Vec::<String>::new());
        assert_eq!(of(rules, Change::Removed, &[], [Some(&one), None], |_| false), Vec::<String>::new());
    }

    #[test]
    fn a_conditional_access_policy_that_no_longer_stands() {
        let state = |s: &str| json!({"state": s});
        let of = |a: &str, b: &str| changed("entra.conditionalAccessPolicies", state(a), state(b));
        assert_eq!(of("enabled", "disabled"), ["the policy was switched off"]);
        assert_eq!(of("enabled", "enabledForReportingButNotEnforced"), ["the policy only reports now and enforces nothing"]);
        assert_eq!(of("disabled", "enabled"), Vec::<String>::new());
        let rules = &spec("entra.conditionalAccessPolicies").attention;
        assert_eq!(super::of(rules, Change::Removed, &[], [Some(&state("enabled")), None], |_| false), ["the policy is gone"]);
        assert_eq!(super::of(rules, Change::Added, &[], [None, Some(&state("disabled"))], |_| false), Vec::<String>::new());
    }

    #[test]
    fn a_rule_about_what_is_referred_to_asks_for_it() {
        let rules = &spec("entra.roleAssignments").attention;
        let record = json!({"roleDefinitionId": "r"});
        let told = |holds: bool| of(rules, Change::Added, &[], [None, Some(&record)], |_| holds);
        assert_eq!((told(true), told(false)), (vec!["a privileged role was assigned".to_owned()], vec![]));
    }

    #[test]
    fn below_a_place_is_a_change_of_it() {
        let rule = |text: Value| serde_json::from_value::<Attention>(text).unwrap();
        let told = |rule: Attention, a: Value, b: Value| {
            !of(&[rule], Change::Changed, &of_values(&[], &a, &b), [Some(&a), Some(&b)], |_| false).is_empty()
        };
        let (a, b) = (json!({"x": {"y": 1}, "z": 1}), json!({"x": {"y": 2}, "z": 1}));
        assert!(told(rule(json!({"at": "/x", "say": ""})), a.clone(), b.clone()));
        assert!(!told(rule(json!({"at": "/z", "say": ""})), a.clone(), b.clone()));
        assert!(!told(rule(json!({"at": "/x", "when": ["added"], "say": ""})), a.clone(), b.clone()));
        assert!(!told(rule(json!({"at": "/x", "to": 2, "say": ""})), a, b));
        // A list that is no set and has another length is told as a whole.
        let lost = || rule(json!({"at": "/l", "lost": "m", "say": ""}));
        assert!(
            told(lost(), json!({"l": ["a", "m"]}), json!({"l": ["a"]})) && !told(lost(), json!({"l": ["a", "m"]}), json!({"l": ["m"]}))
        );
    }
}
