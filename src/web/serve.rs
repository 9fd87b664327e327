//! The server, on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use url::Host;

use super::{Board, View, metrics, page};

/// A daemon that did not look around for so long stands still; one whose store does not answer tries for minutes.
const STILL: SignedDuration = SignedDuration::from_mins(10);
/// A status that is older is none.
const OLD: SignedDuration = SignedDuration::from_mins(30);

/// Serves a board until the process ends.
pub fn serve(listener: TcpListener, board: Board) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (ready, begun) = mpsc::channel();
    std::thread::Builder::new().name("web".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(ready.send(Err(e))),
        };
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let _ = ready.send(Ok(()));
                    let _ = axum::serve(listener, router(board)).await;
                }
                Err(e) => drop(ready.send(Err(e))),
            }
        });
    })?;
    begun.recv().map_err(io::Error::other)?
}

fn router(board: Board) -> Router {
    Router::new()
        .route("/", get(|State(board): State<Board>| async move { shown(&board, "text/html; charset=utf-8", page::render) }))
        .route("/metrics", get(|State(board): State<Board>| async move { shown(&board, metrics::CONTENT_TYPE, metrics::render) }))
        .route("/healthz", get(|State(board): State<Board>| async move { judged(&board, healthy) }))
        .route("/readyz", get(|State(board): State<Board>| async move { judged(&board, ready) }))
        .route("/api/v1/status", get(|State(board): State<Board>| async move { shown(&board, "application/json", document) }))
        .with_state(board)
        .layer(from_fn(only_here))
}

/// A page of somebody else must not read this one through a name that leads to this machine.
async fn only_here(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(host, _)| host);
    let here = match Host::parse(host) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(ip)) => ip.is_loopback(),
        Ok(Host::Ipv6(ip)) => ip.is_loopback(),
        Err(_) => false,
    };
    if !here {
        return (StatusCode::MISDIRECTED_REQUEST, "this is served as localhost only\n").into_response();
    }
    let mut response = next.run(request).await;
    let security = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in security {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn shown(board: &Board, kind: &'static str, render: fn(&View, Timestamp) -> String) -> Response {
    match board.read() {
        Ok(view) => ([(header::CONTENT_TYPE, kind)], render(&view, Timestamp::now())).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn judged(board: &Board, judge: fn(&View, Timestamp) -> Result<(), String>) -> Response {
    match board.read().map_err(|e| e.to_string()).and_then(|view| judge(&view, Timestamp::now())) {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// It looks around.
fn healthy(view: &View, now: Timestamp) -> Result<(), String> {
    let ticked = view.ticked.ok_or("it has not begun")?;
    if now.duration_since(ticked) > STILL { Err(format!("it stands still since {ticked}")) } else { Ok(()) }
}

/// It looks around, may begin jobs, and can read its vault.
fn ready(view: &View, now: Timestamp) -> Result<(), String> {
    healthy(view, now)?;
    if view.stopping {
        return Err("it was told to end, and begins nothing more".into());
    }
    if let Some(held) = &view.held {
        return Err(held.clone());
    }
    let at = view.status_at().ok_or_else(|| view.status_error.clone().unwrap_or_else(|| "the vault was not read yet".into()))?;
    if now.duration_since(at) > OLD {
        return Err(view.status_error.clone().unwrap_or_else(|| format!("the vault was last read at {at}")));
    }
    Ok(())
}

fn document(view: &View, now: Timestamp) -> String {
    let mut document = view.status.clone().unwrap_or_else(|| json!({ "ok": null }));
    if let Some(fields) = document.as_object_mut() {
        let runs: Vec<_> =
            view.counts.runs.iter().map(|((job, outcome), n)| json!({ "job": job, "outcome": outcome, "count": n })).collect();
        fields.insert(
            "agent".into(),
            json!({
                "name": view.agent, "vault": view.vault, "since": view.since, "now": now, "ticked": view.ticked, "alerting": view.alerting,
                "held": view.held, "stopping": view.stopping, "policy_error": view.policy_error, "status_error": view.status_error, "runs": runs,
            }),
        );
        fields.insert("jobs".into(), json!(view.jobs));
        fields.insert("alerts".into(), json!(view.alerts));
    }
    document.to_string()
}
