//! The server: takes requests in, lets faults strike, does the work, sends answers out.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use super::call::{Call, Place};
use super::faults::{self, Kind};
use super::instants::{http_date, seconds};
use super::reply::{Outcome, Reply};
use super::state::State;
use super::write::Sums;
use super::{alter, arm, auth, containers, control, list, locks, read, sums, tokens, write};

pub struct Core {
    pub state: Mutex<State>,
    /// `http://127.0.0.1:PORT`
    pub origin: String,
}

impl Core {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub async fn serve(core: Arc<Core>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(connection(core.clone(), stream));
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream) {
    stream.set_nodelay(true).ok();
    // A second handle, to make closing a reset where a fault wants that.
    let Ok(handle) = stream.as_fd().try_clone_to_owned() else { return };
    let handle = Arc::new(handle);
    let service = service_fn(move |request| answer(core.clone(), handle.clone(), request));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(core: Arc<Core>, handle: Arc<OwnedFd>, request: Request<Incoming>) -> io::Result<Response<Pieces>> {
    let (parts, body) = request.into_parts();
    let mut call = Call::new(parts);
    let (place, latency, origin) = {
        let state = core.lock();
        (call.place(&state.options.account), state.options.latency_ms, core.origin.clone())
    };
    let operation = call.operation(&place);
    if operation == "Control" {
        call.body = collect(&call, body).await?;
        let reply = control::answer(&mut core.lock(), &call).unwrap_or_else(|refusal| refusal);
        return Ok(send(reply, None));
    }
    let struck = {
        let mut state = core.lock();
        *state.counts.entry(operation.to_owned()).or_default() += 1;
        faults::strike(&mut state.faults, operation, &call.decoded_path())
    };
    let slow: u64 = struck.iter().map(|kind| if let Kind::Slow { ms } = kind { *ms } else { 0 }).sum();
    if latency + slow > 0 {
        tokio::time::sleep(Duration::from_millis(latency + slow)).await;
    }
    if struck.iter().any(|kind| matches!(kind, Kind::Reset)) {
        SockRef::from(&*handle).set_linger(Some(Duration::ZERO))?;
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    call.body = collect(&call, body).await?;
    let sums = tokio::task::block_in_place(|| sums_of(&call, operation));
    let instead = struck.iter().find_map(fake);
    let faked = instead.is_some();
    let reply = {
        let mut state = core.lock();
        state.bytes_in += call.body.len() as u64;
        let outcome = instead.map_or_else(|| dispatch(&mut state, &call, &place, operation, &origin, &sums), Ok);
        let mut reply = outcome.unwrap_or_else(|refusal| refusal);
        let proxy = faked && reply.header("x-ms-error-code").is_none();
        if !proxy {
            reply = stamp(&mut state, reply, &call, &struck);
        }
        state.bytes_out += if call.method == hyper::Method::HEAD { 0 } else { reply.length() };
        reply
    };
    if struck.iter().any(|kind| matches!(kind, Kind::LostResponse)) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let mut reply = reply;
    if call.method == hyper::Method::HEAD {
        reply.body.clear();
    }
    let mut cut = None;
    for kind in &struck {
        match kind {
            Kind::FlipByte { at } => flip(&mut reply.body, *at),
            Kind::Truncate { at } => cut = Some(*at),
            _ => {}
        }
    }
    Ok(send(reply, cut))
}

/// The whole body in one piece: a small blob must not hold a whole read buffer in memory.
async fn collect(call: &Call, mut body: Incoming) -> io::Result<Bytes> {
    let announced: usize = call.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut out = Vec::with_capacity(announced.min(1 << 33));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            out.extend_from_slice(&data);
        }
    }
    Ok(Bytes::from(out))
}

fn sums_of(call: &Call, operation: &str) -> Sums {
    let md5 = operation == "PutBlob" || call.headers.contains_key("content-md5");
    let crc64 = call.headers.contains_key("x-ms-content-crc64");
    Sums { md5: md5.then(|| sums::md5(&call.body)), crc64: crc64.then(|| sums::crc64(&call.body)) }
}

/// The answer of a fault that answers by itself.
fn fake(kind: &Kind) -> Option<Reply> {
    match kind {
        Kind::Status { status, code, retry_after } => Some(Reply::error(*status, code).with_if("retry-after", retry_after.clone())),
        Kind::ProxyPage { status } => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in to the network</form></body></html>";
            let mut reply = Reply::new(*status).with("content-type", "text/html; charset=utf-8");
            if (300..400).contains(status) {
                reply = reply.with("location", "http://127.0.0.1:9/login");
            }
            reply.body.push(Bytes::from_static(page.as_bytes()));
            Some(reply)
        }
        _ => None,
    }
}

/// What every answer of the service carries.
fn stamp(state: &mut State, reply: Reply, call: &Call, struck: &[Kind]) -> Reply {
    let shift: i64 = struck.iter().map(|kind| if let Kind::DateOffset { seconds } = kind { *seconds } else { 0 }).sum();
    let date = state.now().checked_add(seconds(shift)).unwrap();
    let id = format!("00000000-001e-0000-0000-{:012x}", state.next_serial());
    reply
        .with("server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
        .with("date", http_date(date))
        .with("x-ms-request-id", id)
        .with("x-ms-version", call.header("x-ms-version").or_else(|| call.query("sv")).unwrap_or("2021-12-02"))
        .with_if("x-ms-client-request-id", call.header("x-ms-client-request-id"))
}

fn flip(body: &mut [Bytes], at: u64) {
    let mut at = usize::try_from(at).unwrap_or(usize::MAX);
    for piece in body {
        if at < piece.len() {
            let mut bytes = piece.to_vec();
            bytes[at] ^= 0x01;
            *piece = Bytes::from(bytes);
            return;
        }
        at -= piece.len();
    }
}

fn dispatch(state: &mut State, call: &Call, place: &Place, operation: &str, origin: &str, sums: &Sums) -> Outcome {
    match operation {
        "Token" => return tokens::oauth(state, call),
        "InstanceToken" => return tokens::managed(state, call, true),
        "AppServiceToken" => return tokens::managed(state, call, false),
        "Discovery" => return tokens::discovery(state, call, origin),
        "ResourceManager" => return arm::answer(state, call, &format!("{origin}/{}", state.options.account)),
        "Unknown" => return Err(Reply::error(400, "InvalidUri")),
        _ => {}
    }
    let caller = auth::identify(state, call, place)?;
    auth::permit(&caller, operation, call)?;
    let endpoint = format!("{origin}/{}", state.options.account);
    match (place, operation) {
        (_, "GetAccountInformation") => containers::account(state),
        (Place::Service, "ListContainers") => containers::list(state, call, &endpoint),
        (Place::Service, "GetBlobServiceProperties") => containers::service_properties(state),
        (Place::Service, _) => containers::set_service_properties(state, call),
        (Place::Container(c), "CreateContainer") => containers::create(state, call, c),
        (Place::Container(c), "GetContainerProperties") => containers::properties(state, c),
        (Place::Container(c), "DeleteContainer") => containers::delete(state, call, c),
        (Place::Container(c), "LeaseContainer") => containers::lease_container(state, call, c),
        (Place::Container(c), "SetContainerMetadata") => containers::set_metadata(state, call, c),
        (Place::Container(c), _) => list::blobs(state, call, c, &endpoint),
        (Place::Blob(c, b), _) => on_blob(state, call, &caller, (c, b), operation, sums),
        (Place::Elsewhere, _) => Err(Reply::error(400, "InvalidUri")),
    }
}

fn on_blob(state: &mut State, call: &Call, caller: &auth::Caller, (c, b): (&str, &str), operation: &str, sums: &Sums) -> Outcome {
    match operation {
        "PutBlob" => write::put_blob(state, call, caller, c, b, sums),
        "PutBlock" => write::put_block(state, call, c, b, sums),
        "PutBlockList" => write::put_block_list(state, call, caller, c, b, sums),
        "GetBlob" | "HeadBlob" => read::get(state, call, c, b),
        "GetBlockList" => read::block_list(state, call, c, b),
        "GetBlobTags" => read::get_tags(state, call, c, b),
        "SetBlobTags" => read::set_tags(state, call, c, b),
        "DeleteBlob" => alter::delete(state, call, c, b),
        "SetBlobMetadata" => alter::set_metadata(state, call, c, b),
        "SetBlobProperties" => alter::set_properties(state, call, c, b),
        "SetBlobTier" => alter::set_tier(state, call, c, b),
        "UndeleteBlob" => alter::undelete(state, c, b),
        "LeaseBlob" => alter::lease_blob(state, call, c, b),
        "SetImmutabilityPolicy" => locks::set_policy(state, call, c, b),
        "DeleteImmutabilityPolicy" => locks::delete_policy(state, call, c, b),
        "SetLegalHold" => locks::set_legal_hold(state, call, c, b),
        _ => Err(Reply::error(400, "FeatureNotSupportedByDouble")),
    }
}

/// Makes the answer; a cut body announces its whole length all the same.
fn send(reply: Reply, cut: Option<u64>) -> Response<Pieces> {
    let (length, mut left) = (reply.length(), cut.unwrap_or(u64::MAX));
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name.as_str(), hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let cut = cut.is_some_and(|at| at < length);
    if cut {
        response = response.header("content-length", length);
    }
    let mut queue = VecDeque::new();
    for piece in reply.body {
        let kept = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= kept as u64;
        if kept > 0 {
            queue.push_back(piece.slice(..kept));
        }
    }
    let end = cut.then(|| Box::pin(tokio::time::sleep(Duration::from_millis(50))));
    let left = queue.iter().map(|piece| piece.len() as u64).sum();
    response.body(Pieces { queue, left, cut: end }).unwrap()
}

/// A body in pieces.
pub struct Pieces {
    queue: VecDeque<Bytes>,
    left: u64,
    /// When to break off, after what was sent had time to leave.
    cut: Option<Pin<Box<Sleep>>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(piece) = self.queue.pop_front() {
            self.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.cut {
            None => Poll::Ready(None),
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.cut.is_some() { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}
