//! Slack's incoming webhooks and Teams' workflows.
//!
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>,
//! <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>.

use serde_json::json;

use super::cut;
use crate::alert::Message;

/// Slack takes no longer text in a block.
const SLACK_BLOCK: usize = 2900;
/// Teams takes no longer message than 28 KB.
const TEAMS_TEXT: usize = 9000;

pub(super) fn slack(message: &Message) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (title, text) = (cut(&message.title(), 250), cut(&message.text(), SLACK_BLOCK));
    json!({
        "text": escaped(&title),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("*{}*", escaped(&title)) } },
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("```{}```", escaped(&text.replace("```", "'''"))) } },
        ],
    })
    .to_string()
}

pub(super) fn teams(message: &Message) -> String {
    let colour = match message.severity() {
        crate::policy::AlertSeverity::Critical | crate::policy::AlertSeverity::High => "attention",
        crate::policy::AlertSeverity::Medium => "warning",
        crate::policy::AlertSeverity::Low => "default",
    };
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    { "type": "TextBlock", "text": message.title(), "weight": "bolder", "wrap": true, "color": colour },
                    { "type": "TextBlock", "text": cut(&message.text(), TEAMS_TEXT), "fontType": "monospace", "wrap": true },
                ],
            },
        }],
    })
    .to_string()
}
