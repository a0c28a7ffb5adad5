//! The app of `sidestream demo`: a small web app of the legacy kind, to be put behind the sidecar.
//!
//! It is what sidestream is made for: its job status is plain JSON that somebody has to ask for again and again, and its
//! notifications are an event stream with a timer in each. Nothing in it knows of the sidecar, but for one number: it
//! adds up the requests that the open progress streams would have been, had each tab asked for itself.
//!
//! The reading order is the path of a request: here the listener and its life, then `api`, then what the requests reach:
//! `library` (the jobs), `job` (what a job is at a moment), `notifications` (the app's own stream), `tally` (the counts).

mod api;
mod job;
mod library;
mod notifications;
mod run;
mod session;
mod tally;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use self::run::run;
use api::Api;
use library::Library;
use tally::Tally;

/// Connections served at once. The only peer is the sidecar, whose pool is far smaller; more wait in the backlog.
const MAX_CONNECTIONS: usize = 256;

/// Completed handshakes that may wait for us; what std and tokio take, too.
const BACKLOG: u32 = 1024;

/// How long a connection that is told to end may take to finish its answer, the one to "restart" among them.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The pause after a failed accept or bind: such errors (no descriptors left) do not go away by asking at once.
const AFTER_ERROR: Duration = Duration::from_millis(200);

/// Tells how many client streams are open on the progress route at this moment.
pub type Watched = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The `--route` specs that fit this app, progress first.
///
/// The notifications linger for half a minute only, so that a viewer can see the subscription end on the dashboard.
pub fn routes() -> [&'static str; 2] {
    ["path=/api/progress/{id},poll=/api/videos/{id}", "path=/api/notifications/sse,subscribe,linger=30s"]
}

/// The demo's app: bound, then run until it is told to stop.
pub struct DemoApp {
    listener: TcpListener,
    addr: SocketAddr,
    pace: Pace,
    api: Arc<Api>,
}

/// The app's times, in one place so that tests can shorten them.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How many times faster than the clock on the wall the jobs run.
    speed: u32,
    /// How long a restarting app is away.
    downtime: Duration,
    /// How often the open progress streams are counted: the pace at which a legacy front end asks.
    count_every: Duration,
    /// How often each notification stream looks at its user's jobs.
    look_every: Duration,
    /// The silence after which a notification stream says something.
    heartbeat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            speed: 1,
            downtime: Duration::from_secs(3),
            count_every: Duration::from_secs(1),
            look_every: Duration::from_millis(500),
            heartbeat: Duration::from_secs(10),
        }
    }
}

// === impl DemoApp ===

impl DemoApp {
    /// Binds a free port of the loopback address. Nobody is served before [`DemoApp::run`], but clients may connect.
    pub async fn bind() -> io::Result<Self> {
        Self::bind_with(Pace::default()).await
    }

    async fn bind_with(pace: Pace) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let api = Api { library: Library::new(pace.speed), tally: Tally::default(), pace, dashboard: None };
        Ok(Self { listener, addr, pace, api: Arc::new(api) })
    }

    /// Has the page link to the operator's dashboard at this URL.
    #[must_use]
    pub fn with_dashboard(mut self, url: String) -> Self {
        // Nothing has cloned the `Api` yet: that starts with the first connection, in `run`.
        Arc::get_mut(&mut self.api).expect("an app that does not run yet has its api for itself").dashboard = Some(url);
        self
    }

    /// The address the app listens on, for `--upstream`. It stays the same over restarts of the app.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown`, through any number of restarts ordered by the page.
    ///
    /// Owns the listener and every connection's task: when it returns, or is dropped, they are gone.
    pub async fn run(self, shutdown: CancellationToken, watched: Watched) {
        let Self { mut listener, addr, pace, api } = self;
        loop {
            let life = shutdown.child_token();
            serve(listener, &api, &life, &watched).await;
            if shutdown.is_cancelled() {
                return;
            }
            api.tally.restarted();
            info!(%addr, downtime = ?pace.downtime, "the demo's app restarts");
            tokio::select! {
                () = shutdown.cancelled() => return,
                back = come_back(addr, pace.downtime) => listener = back,
            }
        }
    }
}

impl fmt::Debug for DemoApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemoApp").field("addr", &self.addr).field("pace", &self.pace).finish_non_exhaustive()
    }
}

// === the life of the listener ===

/// One life of the app, from listening to the last closed connection. Cancelling `life` ends it.
async fn serve(listener: TcpListener, api: &Arc<Api>, life: &CancellationToken, watched: &Watched) {
    let mut connections = JoinSet::new();
    let mut count = interval(api.pace.count_every);
    count.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and no time has passed that it could stand for.
    count.tick().await;
    loop {
        tokio::select! {
            biased;
            () = life.cancelled() => break,
            // The streams are counted in this loop, not in a task beside it: an app that is away gets no requests, so
            // it must not count any either.
            _ = count.tick() => api.tally.count_watched(watched()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_connection(stream, Arc::clone(api), life.clone()))),
                Err(error) => {
                    warn!(%error, "the demo's app cannot accept a connection");
                    sleep(AFTER_ERROR).await;
                }
            },
        }
    }
    // Refuse newcomers while the connections say their last words, as a process that is going down does.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end; owned by the `JoinSet` of [`serve`], ended by its peer or by `life`.
async fn serve_connection(stream: TcpStream, api: Arc<Api>, life: CancellationToken) {
    let service = service_fn(|request| {
        let (api, life) = (Arc::clone(&api), life.clone());
        async move {
            let (response, flow) = api.answer(request).await;
            if flow == ControlFlow::Break(()) {
                life.cancel();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = life.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A notification stream never ends by itself. It is cut here, in the rude way of a process that dies.
            timeout(LAST_WORDS, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the demo's app broke");
    }
}

/// Listens again on the same address, after `downtime` in which connections to it are refused.
async fn come_back(addr: SocketAddr, downtime: Duration) -> TcpListener {
    loop {
        match listen_after(addr, downtime).await {
            Ok(listener) => return listener,
            Err(error) => warn!(%error, %addr, "the demo's app cannot have its address back yet"),
        }
        sleep(AFTER_ERROR).await;
    }
}

async fn listen_after(addr: SocketAddr, downtime: Duration) -> io::Result<TcpListener> {
    // The port is taken again at once, without listening: else it would be free for any process to get, and the
    // sidecar's own attempts to connect could be given it as their source port and so reach themselves.
    let socket = reserve(addr)?;
    sleep(downtime).await;
    socket.listen(BACKLOG)
}

fn reserve(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The connections we have just closed are remembered by the kernel for a minute, and would bar the bind.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
