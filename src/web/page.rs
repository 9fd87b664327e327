//! The status page: one page, made on the server, readable at the width of a phone.

use jiff::{SignedDuration, Timestamp};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{JobView, View};
use crate::alert::{Alert, spelled};
use crate::objective::spoken;

const STYLE: &str = include_str!("page.css");

pub(super) fn render(view: &View, now: Timestamp) -> String {
    let (class, title, why) = verdict(view, now);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="30";
                title { (title) " · backstop" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header class=(class) {
                    p.question { "Are we safe now?" }
                    h1 { (title) }
                    @for reason in &why { p { (reason) } }
                }
                main {
                    @if !view.alerts.is_empty() { (alerts(&view.alerts, view.alerting, now)) }
                    @match &view.status {
                        Some(status) => {
                            (objectives(status))
                            (calendar(status))
                            (jobs(&view.jobs, now))
                            (points(status, now))
                            (proof(status, now))
                            (findings(status))
                        }
                        None => {
                            section { h2 { "The vault was not read yet" } p { (view.status_error.clone().unwrap_or_default()) } }
                            (jobs(&view.jobs, now))
                        }
                    }
                }
                footer {
                    p {
                        "backstop " (env!("CARGO_PKG_VERSION")) " · agent " (view.agent) " · vault " (view.vault)
                        @if let Some(at) = view.status_at() { " · vault read " (ago(at, now)) }
                        " · page of " (at_second(now))
                    }
                    p { a href="/api/v1/status" { "JSON" } " · " a href="/metrics" { "metrics" } " · " a href="/healthz" { "health" } " · " a href="/readyz" { "ready" } }
                }
            }
        }
    }
    .into_string()
}

/// What stands at the top: good, bad, or not known.
fn verdict(view: &View, now: Timestamp) -> (&'static str, &'static str, Vec<String>) {
    let mut why: Vec<String> = Vec::new();
    why.extend(view.held.as_ref().map(|held| format!("Nothing is begun: {held}.")));
    why.extend(view.policy_error.as_ref().map(|e| format!("The policy on the disk is not in force: {e}")));
    why.extend(view.status_error.as_ref().map(|e| format!("The vault cannot be read: {e}")));
    let Some(status) = &view.status else { return ("unknown", "Nobody knows yet", why) };
    let old = view.status_at().is_none_or(|at| now.duration_since(at) > SignedDuration::from_mins(30));
    if old || view.status_error.is_some() {
        return ("unknown", "Nobody knows", why);
    }
    let errors = list(status, "findings").filter(|f| text(f, "severity") == "error");
    why.extend(errors.map(|f| format!("{}: {}.", text(f, "chain"), text(f, "message"))));
    match status["ok"] == true && view.held.is_none() {
        true => ("good", "Yes", why),
        false => ("bad", "No", why),
    }
}

fn list<'a>(status: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    status.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn time(value: &Value, field: &str) -> Option<Timestamp> {
    value.get(field)?.as_str()?.parse().ok()
}

fn at_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let since = now.duration_since(at);
    if since.is_negative() { format!("in {}", spoken(-since)) } else { format!("{} ago", spoken(since)) }
}

/// An instant, with its distance from now.
fn when(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @match at { Some(at) => time datetime=(at) title=(at_second(at)) { (ago(at, now)) }, None => span.faint { "never" } } }
}

fn seconds(value: Option<f64>) -> String {
    let duration = value.and_then(|s| SignedDuration::try_from_secs_f64(s.ceil()).ok());
    duration.map_or_else(|| "unknown".to_owned(), spoken)
}

fn alerts(alerts: &[Alert], own: bool, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Alerts" }
            @if !own { p { "Another agent sends them; this is how they were some seconds ago." } }
            @for alert in alerts {
                article class=(format!("alert {}", spelled(alert.severity))) {
                    h3 { span.tag { (spelled(alert.severity)) } " " (alert.subject) ": " (alert.summary) }
                    p { "Since " (when(Some(alert.opened), now)) ". It endangers: " (alert.endangers) "." }
                    p { "Type " code { (alert.command) } ", and read " code { (alert.runbook) } "." }
                    @match &alert.acknowledged {
                        Some(ack) => p { "Acknowledged by " (ack.by) " " (when(Some(ack.at), now)) "." },
                        None => p { "Nobody acts yet; act by " (at_second(alert.respond_by)) ", then type " code { "backstop notify ack " (alert.id) } "." },
                    }
                }
            }
        }
    }
}

fn objectives(status: &Value) -> Markup {
    let number = |v: &Value, field: &str| v.get(field).and_then(Value::as_f64);
    let availability = &status["availability"];
    html! {
        section {
            h2 { "RPO" }
            div.table { table {
                thead { tr { th { "what" } th { "class" } th.number { "now" } th.number { "objective" } th { } } }
                tbody {
                    @for rpo in list(status, "rpo") {
                        @let (achieved, objective) = (number(rpo, "achieved_seconds"), number(rpo, "objective_seconds"));
                        @let bad = objective.is_some_and(|o| achieved.is_none_or(|a| a > o));
                        tr class=[bad.then_some("bad")] {
                            td { (text(rpo, "name")) }
                            td { (text(rpo, "class")) }
                            td.number { @if achieved.is_some() { (seconds(achieved)) } @else { "nothing" } }
                            td.number { @if objective.is_some() { (seconds(objective)) } @else { "none" } }
                            td { @if objective.is_none() { "delivered" } @else if bad { "missed" } @else { "kept" } }
                        }
                    }
                }
            } }
            @for (field, words) in [("days_30", "30 days"), ("days_365", "365 days")] {
                @if let Some(percent) = number(&availability[field], "percent") {
                    p { "Available " strong { (format!("{percent:.3} %")) } " of the last " (words) "; the objective is " (number(availability, "objective_percent").unwrap_or_default()) " %." }
                }
            }
        }
    }
}

/// The last 90 days, a square a day.
fn calendar(status: &Value) -> Markup {
    let objective = status["availability"]["objective_percent"].as_f64().unwrap_or(100.0);
    let days: Vec<&Value> = list(&status["availability"], "days").collect();
    html! {
        @if !days.is_empty() {
            section {
                h2 { @if days.len() == 1 { "Today" } @else { "The last " (days.len()) " days" } }
                ol.calendar {
                    @for day in &days {
                        @let percent = day["percent"].as_f64().unwrap_or(0.0);
                        @let class = if percent >= objective { "good" } else if percent >= 90.0 { "doubt" } else { "bad" };
                        @let date = text(day, "from").get(..10).unwrap_or_default();
                        li class=(class) title=(format!("{date}: {percent:.2} % within the RPO")) { span.sr { (date) " " (format!("{percent:.2} %")) } }
                    }
                }
                p.faint { "A square a day, the oldest first: the share of the day within every RPO." }
            }
        }
    }
}

fn jobs(jobs: &[JobView], now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Jobs: the last night, and what is next" }
            div.table { table {
                thead { tr { th { "job" } th { "state" } th { "last done" } th { "next" } th { "by" } } }
                tbody {
                    @for job in jobs {
                        @let state = if job.running { "running" } else { job.state.as_deref().unwrap_or("not yet run") };
                        @let class = match state { "failed" | "interrupted" => "bad", "flawed" => "doubt", _ => "" };
                        tr class=(class) {
                            td { (job.job) " " span.faint { (job.command) } }
                            td {
                                (state)
                                @if job.attempts > 1 { " (try " (job.attempts) ")" }
                                @if job.missed > 0 { span.faint { ", " (job.missed) " missed before" } }
                                @if let Some(message) = &job.message { br; span.faint { (message) } }
                            }
                            td { (when(job.success, now)) }
                            td { (when(job.next, now)) }
                            td { @if job.own { (job.agent.as_deref().unwrap_or("this agent")) } @else { "another agent" } }
                        }
                    }
                }
            } }
        }
    }
}

fn points(status: &Value, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Newest recovery points" }
            div.table { table {
                thead { tr { th { "of" } th { "captured" } th { "run" } th { "lock" } th { "tested" } } }
                tbody {
                    @for point in list(status, "newest") {
                        tr class=[(text(point, "lock_mode") != "locked").then_some("doubt")] {
                            td { (text(point, "source")) (text(point, "stream")) }
                            td { (when(time(point, "captured"), now)) }
                            td { code { (text(point, "run")) } }
                            td { (text(point, "lock_mode")) @if let Some(until) = time(point, "lock_until") { " until " (until.strftime("%Y-%m-%d")) } }
                            td { @if time(point, "tested").is_some() { (when(time(point, "tested"), now)) } @else { "not yet" } }
                        }
                    }
                }
            } }
        }
    }
}

fn proof(status: &Value, now: Timestamp) -> Markup {
    let (test, drill) = (&status["restore_test"], &status["drill"]);
    html! {
        section {
            h2 { "Proof" }
            @if let Some(coverage) = status["coverage"].as_f64() {
                p { strong { (format!("{:.1} %", 100.0 * coverage)) } " of what is stored was restored and checked within 90 days." }
            }
            p {
                "Restore test: "
                @if test.is_object() { (when(time(test, "finished"), now)) ", " (text(test, "outcome")) } @else { "there was none" }
            }
            p {
                "Drill: "
                @if drill.is_object() {
                    (when(time(drill, "finished"), now)) ", " (text(drill, "scenario")) ", "
                    @if drill["passed"] == true { "passed" } @else { "not passed" }
                    ", RTO " (seconds(drill["rto_achieved_seconds"].as_f64())) " of " (seconds(drill["rto_objective_seconds"].as_f64()))
                } @else { "there was none" }
            }
        }
    }
}

fn findings(status: &Value) -> Markup {
    let warnings: Vec<&Value> = list(status, "findings").filter(|f| text(f, "severity") != "error").collect();
    html! {
        @if !warnings.is_empty() {
            section {
                h2 { "Somebody should look" }
                ul { @for w in warnings { li { (text(w, "chain")) ": " (text(w, "message")) } } }
            }
        }
    }
}
