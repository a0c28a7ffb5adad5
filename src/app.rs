//! The whole program, from configuration to exit: bind first, serve later, drain at the end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

mod parts;

use self::parts::Parts;
use crate::{
    app_log::AppLog,
    app_view::AppView,
    child::{self, Child, End, launch::Launcher},
    config::Config,
    files::{self, Plan},
    guard,
    listen::{self, ListenError, Listeners},
    log,
    metrics::Metrics,
    readiness::State,
    shard::Shards,
    shutdown::Shutdown,
    systemd::{self, Sockets},
};

/// How long the drain waits, after the last stream was told to end, for what is still on its way.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// How long the drain takes when the app has ended: what is forwarded gets no answer any more, and whoever starts us anew
/// is not to wait.
const DRAIN_WITHOUT_APP: Duration = Duration::from_secs(1);

/// Why the program can't start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nobody could come to us.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Two series have the same name: a fault of the program.
    #[error("can't make the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The program with its sockets open, ready to run.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    plan: Plan,
    listeners: Listeners,
    registry: Registry,
    metrics: Arc<Metrics>,
    launcher: Option<Launcher>,
}

/// How the program came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everybody had left.
    Drained,
    /// The time for the drain was over; what was left was cut.
    Cut,
    /// A second signal: it ended at once.
    Aborted,
    /// The app ended by itself, or not as it was told to: this is its status.
    App(u8),
}

/// Opens the sockets and makes the metrics; nothing is answered yet.
///
/// # Errors
/// When an address can't be had.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(config: Config, sockets: Sockets) -> Result<Bound, BindError> {
    // Before our limit of open files is raised, which the app is not to inherit.
    let launcher = config.command.clone().map(Launcher::new);
    let plan = plan_files(&config);
    let listeners = listen::open(&config, sockets)?;
    let registry = Registry::new();
    let mut names: Vec<_> = config.routes.iter().map(|route| route.path.as_str().to_owned()).collect();
    if !config.no_guard {
        // Behind the routes, whose ids are their places on the command line.
        names.push(guard::ROUTE.to_owned());
    }
    let metrics = Arc::new(Metrics::register(&registry, &names)?);
    registry.register(Box::new(ProcessCollector::for_self()))?;
    Ok(Bound { config, plan, listeners, registry, metrics, launcher })
}

/// Divides the files that the process may open, and says so.
fn plan_files(config: &Config) -> Plan {
    let (limit, error) = files::raise_limit();
    if let Some(error) = error {
        warn!(%error, "the limit of open files can't be raised");
    }
    let plan = Plan::new(limit, config.max_connections, config.poll_concurrency, Shards::per_core());
    info!(open_files = limit, max_connections = plan.streams_max, "limits");
    match plan.warning(config.max_connections_given) {
        Some(warning) if plan.is_scarce(config.max_connections_given) => warn!("{warning}"),
        Some(note) => info!("{note}"),
        None => {}
    }
    plan
}

// === impl Bound ===

impl Bound {
    /// The public side's real addresses.
    pub fn public_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.public.iter().map(|(addr, _)| *addr)
    }

    /// The admin side's real address.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.listeners.admin.as_ref().map(|(addr, _)| *addr)
    }

    /// The counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown` says otherwise, then leaves in good order.
    pub async fn run(self, shutdown: Shutdown) -> Exit {
        let Self { config, plan, listeners: Listeners { public, admin }, registry, metrics, launcher } = self;
        let view = Arc::new(AppView::new(&config));
        let parts = match Parts::new(&config, plan, registry, metrics, Arc::clone(&view)) {
            Ok(parts) => parts,
            Err(error) => {
                tracing::error!(%error, "the shards can't be started");
                return Exit::Aborted;
            }
        };
        let tracker = TaskTracker::new();
        // Ends what outlives the streams: the admin side, the walks, the schedule.
        let stop = CancellationToken::new();
        parts.spawn_walks(&tracker, &stop);
        if let Some(path) = config.app_log.clone() {
            // It is opened before anybody can ask us for anything, so that nothing is missed of what follows.
            let (log, stopped) = (AppLog::open(path, Arc::clone(&parts.metrics)), stop.clone());
            tracker.spawn(async move { stopped.run_until_cancelled(log.run()).await });
        }
        let addrs: Vec<_> = public.iter().map(|(addr, _)| *addr).collect();
        let (health, stopped, drain) = (Arc::clone(&parts.admin.health), stop.clone(), shutdown.drain.clone());
        tracker.spawn(async move { stopped.run_until_cancelled(health.run(&addrs, drain)).await });
        // The sockets listen since they were bound; whoever reads the lines below may ask at once.
        parts.readiness.set(State::Ready);
        if let Some((addr, listener)) = admin {
            info!(side = "admin", %addr, "listening");
            tracker.spawn(Arc::clone(&parts.admin).serve(listener, stop.clone()));
        }
        let clients = TaskTracker::new();
        // Cut at the end in any case; the signal's own abort still says then whether there was one.
        let serving = Shutdown { drain: shutdown.drain.clone(), abort: shutdown.abort.child_token() };
        for (addr, listener) in public {
            info!(side = "public", %addr, upstream = %config.upstream.authority, "listening");
            clients.spawn(Arc::clone(&parts.server).serve(listener, clients.clone(), serving.clone()));
        }

        let start = |launcher| Child::start(launcher, config.app_restart, Arc::clone(&parts.metrics), view, &shutdown);
        let child = match launcher.map(start).transpose() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%error, "the app can't be looked after");
                return Exit::Aborted;
            }
        };

        systemd::ready();
        let health = Arc::clone(&parts.admin.health);
        let told = systemd::keep_posted(health, Arc::clone(&parts.connections), parts.readiness.clone());
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(told).await });

        let (mut end, drain_time) = tokio::select! {
            // An end that was ordered comes after its order, but both may have come when we look.
            biased;
            () = shutdown.drain.cancelled() => (None, config.drain),
            end = ended(child.as_ref()) => (Some(end), config.drain.min(DRAIN_WITHOUT_APP)),
        };
        let is_ordered = end.is_none();
        shutdown.drain.cancel();

        let began = Instant::now();
        parts.readiness.set(State::Draining);
        let mut cut_at = began + drain_time + DRAIN_SLACK;
        parts.announce_end(cut_at);
        let streams = parts.connections.len();
        info!(streams, seconds = log::seconds(drain_time), "draining");
        let app_time = child.as_ref().map_or(Duration::ZERO, |_| child::STOP_WITHIN);
        systemd::stopping(streams, drain_time.saturating_add(DRAIN_SLACK).saturating_add(app_time));
        parts.drain(drain_time);
        clients.close();
        let everybody_left = async {
            clients.wait().await;
            parts.connections.wait_empty().await;
        };
        tokio::pin!(everybody_left);
        let exit = loop {
            tokio::select! {
                // A second signal makes everybody leave, and both may have come when we look.
                biased;
                () = shutdown.abort.cancelled() => break Exit::Aborted,
                () = &mut everybody_left => break Exit::Drained,
                () = tokio::time::sleep_until(cut_at) => break Exit::Cut,
                // By a terminal that told us both, say.
                its = ended(child.as_ref()), if end.is_none() => {
                    end = Some(its);
                    parts.drain(DRAIN_WITHOUT_APP);
                    cut_at = cut_at.min(Instant::now() + DRAIN_WITHOUT_APP + DRAIN_SLACK);
                    parts.announce_end(cut_at);
                }
            }
        };
        serving.abort.cancel();
        clients.wait().await;
        parts.shards.stop();
        let seconds = log::seconds(began.elapsed());
        match exit {
            Exit::Drained | Exit::App(_) => info!(seconds, "drained"),
            Exit::Cut => warn!(seconds, "the time for the drain is over; what was left was cut"),
            Exit::Aborted => warn!(seconds, "cut by a second signal"),
        }
        if let Some(child) = &child {
            end = Some(child.stop(&shutdown.abort).await);
        }
        stop.cancel();
        tracker.close();
        tracker.wait().await;
        match end {
            _ if shutdown.abort.is_cancelled() => Exit::Aborted,
            Some(end) if !is_ordered || !end.is_as_ordered() => Exit::App(end.status()),
            _ => exit,
        }
    }
}

/// Waits for the end of the app; for ever, if it is not ours.
async fn ended(child: Option<&Child>) -> End {
    match child {
        Some(child) => child.ended().await,
        None => std::future::pending().await,
    }
}
