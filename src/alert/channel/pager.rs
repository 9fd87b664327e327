//! PagerDuty's Events API v2: <https://developer.pagerduty.com/docs/send-alert-event>.

use serde_json::json;

use super::cut;
use crate::alert::{Message, News};
use crate::http::Secret;
use crate::policy::AlertSeverity;

/// One event of each alert; an alert that it knows already is found by its key, so that nothing comes twice.
pub(super) fn events(message: &Message, routing_key: &Secret) -> Vec<String> {
    let event = |(news, alert): &(News, crate::alert::Alert)| {
        let action = match news {
            News::Acknowledged => "acknowledge",
            News::Resolved => "resolve",
            _ => "trigger",
        };
        let severity = match alert.severity {
            AlertSeverity::Critical => "critical",
            AlertSeverity::High => "error",
            AlertSeverity::Medium => "warning",
            AlertSeverity::Low => "info",
        };
        json!({
            "routing_key": routing_key.reveal(),
            "event_action": action,
            "dedup_key": format!("backstop-{}", alert.id),
            "client": "backstop",
            "payload": {
                "summary": cut(&format!("{}: {}", alert.subject, alert.summary), 1024),
                "source": message.vault,
                "severity": severity,
                "timestamp": alert.opened,
                "component": alert.subject,
                "class": alert.kind,
                "custom_details": {
                    "endangers": alert.endangers, "command": alert.command, "runbook": alert.runbook,
                    "respond_by": alert.respond_by, "id": alert.id, "state": news,
                },
            },
        })
        .to_string()
    };
    message.news.iter().map(event).collect()
}
