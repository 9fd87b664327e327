//! The server: HTTP in front of the tenant, on a runtime and a thread of its own.

mod arm;
mod batch;
mod control;
mod delta;
mod faults;
mod graph;
mod http;
mod list;
mod render;
mod throttle;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{SampleError, Tenant};

pub use faults::{Fault, FaultKind, Faults};
pub use throttle::Throttle;
pub use token::Tokens;

pub(super) use control::answer as answer_control;
pub(super) use delta::count;
pub(super) use faults::{instead, spoil};
pub(super) use graph::answer as answer_graph;
pub(super) use list::{Page, PageToken, context, room};
pub(super) use render::Renderer;
pub(super) use throttle::check;
pub(super) use token::{answer as answer_token, authorise};
pub(super) use {arm::answer as answer_arm, batch::answer as answer_batch};

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address: `http://127.0.0.1:8480`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long requests in flight may take to finish once the server is to stop.
const PATIENCE: Duration = Duration::from_millis(500);

/// Serves a tenant. Port nought takes any that is free.
pub fn serve(tenant: Arc<Tenant>, addr: SocketAddr) -> Result<Server, SampleError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sample-tenant")
        .enable_all()
        .build()
        .map_err(SampleError::Start)?;
    let listener = runtime.block_on(TcpListener::bind(addr)).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SampleError::PortTaken { port: addr.port() },
        _ => SampleError::Bind { addr, source },
    })?;
    let addr = listener.local_addr().map_err(SampleError::Start)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        runtime.block_on(http::run(tenant, listener, stopped, PATIENCE));
        runtime.shutdown_timeout(PATIENCE);
    };
    let thread = std::thread::Builder::new().name("sample-tenant".into()).spawn(run).map_err(SampleError::Start)?;
    Ok(Server { addr, stop: Some(stop), thread: Some(thread) })
}
