//! Of which subscriptions Azure's collections are asked. A list that no longer names one says nothing of it: whoever
//! lost a role on it is shown the others, without an error.

use serde_json::value::RawValue;

use crate::http::{HttpError, Pages, Service, place};
use crate::observe::Monitor;

use super::Subscriptions;

/// What there is to ask, and what cannot be asked any more.
#[derive(Default)]
pub struct Survey {
    /// Ids of those that answer.
    pub there: Vec<String>,
    /// Those of them that the list leaves out, as they answer for themselves.
    pub unlisted: Vec<Box<RawValue>>,
    /// Ids of those that were there before, and why they are no more.
    pub lost: Vec<(String, HttpError)>,
}

impl Survey {
    /// Those of the policy; or all that are listed, and what became of those that were there before.
    pub fn make(service: &Service, wanted: &Subscriptions, monitor: &dyn Monitor) -> Result<Self, HttpError> {
        let earlier = match wanted {
            Subscriptions::These(these) => return Ok(Self { there: these.clone(), ..Self::default() }),
            Subscriptions::All { earlier } => earlier,
        };
        let mut survey = Self { there: listed(service, monitor)?, ..Self::default() };
        for id in earlier {
            if survey.there.iter().any(|there| there.eq_ignore_ascii_case(id)) {
                continue;
            }
            let url = service.url(&format!("/subscriptions/{id}"), &[("api-version", "2022-12-01")]);
            let asked = service.get(&url, None, monitor, |body| serde_json::from_slice::<Box<RawValue>>(body).map_err(|e| e.to_string()));
            match asked {
                Ok(record) => {
                    survey.there.push(id.clone());
                    survey.unlisted.push(record);
                }
                // The service itself says that there is none; no other 404 does.
                Err(HttpError::Refused { status: 404, code, .. }) if code == "SubscriptionNotFound" => {}
                Err(e @ (HttpError::Credential { .. } | HttpError::Unreachable { .. })) => return Err(e),
                Err(e) => survey.lost.push((id.clone(), e)),
            }
        }
        Ok(survey)
    }
}

fn listed(service: &Service, monitor: &dyn Monitor) -> Result<Vec<String>, HttpError> {
    let url = service.url("/subscriptions", &[("api-version", "2022-12-01")]);
    let at = place(&url);
    let mut pages = Pages::new(service, url, None, monitor);
    let mut out = Vec::new();
    while let Some(page) = pages.next_page()? {
        for record in &page.value {
            let value: serde_json::Value = serde_json::from_str(record.get()).unwrap_or_default();
            // One that is passed over would look as if all that is in it were deleted.
            let what = || "a subscription has no subscriptionId".to_owned();
            let id = value["subscriptionId"].as_str().ok_or_else(|| HttpError::Unreadable { place: at.clone(), what: what() })?;
            out.push(id.to_owned());
        }
    }
    if out.is_empty() { Err(HttpError::NoSubscriptions { place: at }) } else { Ok(out) }
}
