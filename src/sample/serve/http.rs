//! HTTP itself: requests become calls, replies become responses, and a connection can be cut in mid-sentence.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::sample::Tenant;
use crate::sample::reply::{Call, Reply, Wire};

/// Bodies of requests may not be larger.
const LARGEST: usize = 8 << 20;

/// Bytes that a connection may still write; negative: as many as it likes.
type Allowance = Arc<AtomicI64>;

/// A connection that can be told to end after some bytes.
struct Link {
    stream: TcpStream,
    allowance: Allowance,
}

fn cut() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.allowance.load(Ordering::Acquire);
        if left < 0 {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        if left == 0 {
            return Poll::Ready(Err(cut()));
        }
        let some = bytes.len().min(left as usize);
        let done = Pin::new(&mut self.stream).poll_write(cx, &bytes[..some]);
        if let Poll::Ready(Ok(n)) = &done {
            self.allowance.store(left - *n as i64, Ordering::Release);
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Gate(TcpListener);

impl Listener for Gate {
    type Io = Link;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Link, SocketAddr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        // Small answers must not wait for the next packet.
        let _ = stream.set_nodelay(true);
        (Link { stream, allowance: Arc::new(AtomicI64::new(-1)) }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Who is at the other end, and the handle to cut the connection.
#[derive(Clone)]
struct Peer {
    addr: SocketAddr,
    allowance: Allowance,
}

impl Connected<IncomingStream<'_, Gate>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Gate>) -> Self {
        Self { addr: *stream.remote_addr(), allowance: Arc::clone(&stream.io().allowance) }
    }
}

pub(super) async fn run(tenant: Arc<Tenant>, listener: TcpListener, stopped: oneshot::Receiver<()>, patience: Duration) {
    let router = Router::new().fallback(handle).with_state(tenant);
    let (tell, told) = oneshot::channel::<()>();
    let signal = async move {
        let _ = stopped.await;
        let _ = tell.send(());
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(Gate(listener), service).with_graceful_shutdown(signal);
    let late = async move {
        let _ = told.await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        _ = async move { serving.await } => {}
        () = late => {}
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

async fn handle(State(tenant): State<Arc<Tenant>>, ConnectInfo(peer): ConnectInfo<Peer>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else { return status(StatusCode::PAYLOAD_TOO_LARGE) };
    let host = text(&parts.headers, "host").unwrap_or_default();
    let bearer = text(&parts.headers, "authorization");
    let call = Call {
        method: parts.method.as_str().to_owned(),
        path: percent_encoding::percent_decode_str(parts.uri.path()).decode_utf8_lossy().into_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        base: format!("http://{host}"),
        bearer: bearer.map(|b| b.strip_prefix("Bearer ").map_or_else(String::new, |t| t.trim().to_owned())),
        eventual: text(&parts.headers, "consistencylevel").is_some_and(|v| v.eq_ignore_ascii_case("eventual")),
        client_request_id: text(&parts.headers, "client-request-id"),
        body: body.to_vec(),
        local: peer.addr.ip().is_loopback(),
        nested: false,
    };
    let reply = tenant.answer(&call);
    if reply.wait > 0 {
        tokio::time::sleep(Duration::from_millis(reply.wait)).await;
    }
    let mut response = respond(reply, &peer);
    if let Some(id) = call.client_request_id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert("client-request-id", id);
    }
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn respond(reply: Reply, peer: &Peer) -> Response<Body> {
    match reply.wire {
        Wire::Whole => {}
        Wire::Nothing => peer.allowance.store(0, Ordering::Release),
        // Heads are short; half of the body is half enough.
        Wire::Half => peer.allowance.store(256 + reply.body.len() as i64 / 2, Ordering::Release),
    }
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.media));
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}
