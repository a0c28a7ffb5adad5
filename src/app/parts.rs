//! What the program consists of while it runs: who gets whom, and the loops that go over everything.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::Admin,
    advice::gather::{self, Adviser},
    app_view::AppView,
    canary::Canary,
    config::Config,
    connections::{Connections, Limits},
    files::{Files, Plan},
    forward::Forwarder,
    guard::{Guard, Pacing},
    health::Health,
    hub::Hub,
    metrics::{Metrics, Phase, RouteId},
    readiness::Readiness,
    route::Route,
    scope::Scopes,
    server::Server,
    shard::Shards,
    source::{Asker, Sources, schedule::Schedule},
    stats::{Stats, board::Board},
    stream::{Streams, admission::Admissions, body},
    upstream::Upstream,
};

/// What the program consists of while it runs.
pub(super) struct Parts {
    routes: usize,
    pub(super) readiness: Readiness,
    pub(super) metrics: Arc<Metrics>,
    hub: Arc<Hub>,
    schedule: Arc<Schedule>,
    pub(super) connections: Arc<Connections>,
    files: Arc<Files>,
    pub(super) shards: Arc<Shards>,
    pub(super) server: Arc<Server>,
    pub(super) admin: Arc<Admin>,
    adviser: Arc<Adviser>,
}

// === impl Parts ===

impl Parts {
    pub(super) fn new(
        config: &Config,
        plan: Plan,
        registry: Registry,
        metrics: Arc<Metrics>,
        app: Arc<AppView>,
    ) -> io::Result<Self> {
        let routes: Arc<[Route]> = config.routes.clone().into();
        let files = Files::new(plan);
        let sockets = Arc::clone(&files);
        metrics.limits(plan.streams_max, config.max_topics, sockets.open_max());
        let upstream = Upstream::counted(config.upstream.authority.clone(), &files);
        let schedule = Schedule::new(config.poll_concurrency, Arc::clone(&metrics));
        let sources = Sources::new(
            Arc::clone(&routes),
            upstream.clone(),
            Arc::clone(&schedule),
            config.not_found_grace,
            Arc::clone(&metrics),
        );
        let hub = Hub::new(config.max_topics, Box::new(sources), Arc::clone(&metrics));
        let limits = Limits {
            connections: plan.streams_max,
            per_ip: config.max_connections_per_ip,
            stale_after: config.stale_after,
            reap_after: config.reap_after,
        };
        let connections = Connections::within(limits, Arc::clone(&metrics), Some(Arc::clone(&files)));
        let shards = Shards::start(Shards::per_core(), limits, &metrics)?;
        let asker = Asker::new(upstream.clone(), Arc::clone(&metrics));
        let streams = Streams {
            routes: Arc::clone(&routes),
            hub: Arc::clone(&hub),
            connections: Arc::clone(&connections),
            scopes: Scopes::new(config.credential_headers.clone()),
            admissions: Admissions::new(Arc::clone(&routes), asker, Arc::clone(&schedule), config.not_found_grace),
            pacings: body::Pacing::of_all(&routes, config.heartbeat_form),
            metrics: Arc::clone(&metrics),
        };
        let pacing = Pacing { heartbeat: config.heartbeat_interval, form: config.heartbeat_form, retry: config.retry };
        let guard = (!config.no_guard)
            .then(|| Guard::new(RouteId(routes.len()), Arc::clone(&connections), pacing, Arc::clone(&metrics)));
        let canary = Canary::new(&connections, &metrics);
        let readiness = Readiness::default();
        let adviser = Adviser::new(gather::Sources {
            routes: Arc::clone(&routes),
            heartbeat: config.heartbeat_interval,
            metrics: Arc::clone(&metrics),
            hub: Arc::clone(&hub),
            schedule: Arc::clone(&schedule),
            connections: Arc::clone(&connections),
            files: Arc::clone(&files),
        });
        let stats = Stats {
            routes: Arc::clone(&routes),
            metrics: Arc::clone(&metrics),
            hub: Arc::clone(&hub),
            schedule: Arc::clone(&schedule),
            connections: Arc::clone(&connections),
            shards: Arc::clone(&shards),
            app,
            files: Arc::clone(&files),
            readiness: readiness.clone(),
            adviser: Arc::clone(&adviser),
            began: Instant::now(),
        };
        let server = Server {
            streams,
            forwarder: Forwarder::new(upstream, Arc::clone(&metrics)),
            guard,
            trusted_proxies: config.trusted_proxies.clone(),
            canary: Arc::clone(&canary),
            head_timeout: config.head_timeout,
            files: Arc::clone(&files),
            shards: Arc::clone(&shards),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            routes: metrics.routes().len(),
            admin: Arc::new(Admin {
                registry,
                readiness: readiness.clone(),
                health: Health::new(Arc::clone(&shards), Arc::clone(&schedule), canary, files),
                board: Board::new(stats),
            }),
            readiness,
            metrics,
            hub,
            schedule,
            connections,
            files: sockets,
            shards,
            server: Arc::new(server),
            adviser,
        })
    }

    /// Ends the streams over this time, or what is left of them sooner than they were told before.
    pub(super) fn drain(&self, time: Duration) {
        self.connections.drain(time);
        self.shards.drain(time);
    }

    /// Says when the drain is over at the latest.
    pub(super) fn announce_end(&self, at: Instant) {
        // Longer times than the clock can tell are as good as none.
        if let Some(at) = SystemTime::now().checked_add(at.saturating_duration_since(Instant::now())) {
            self.metrics.draining_until(at);
        }
    }

    /// The loops that go over everything: each ends with `stop`.
    pub(super) fn spawn_walks(&self, tracker: &TaskTracker, stop: &CancellationToken) {
        let hub = Arc::clone(&self.hub);
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(hub.run()).await });

        let schedule = Arc::clone(&self.schedule);
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(schedule.run()).await });

        let adviser = Arc::clone(&self.adviser);
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(adviser.run()).await });

        let board = Arc::clone(&self.admin.board);
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(board.run()).await });

        let (hub, connections) = (Arc::clone(&self.hub), Arc::clone(&self.connections));
        let (metrics, files) = (Arc::clone(&self.metrics), Arc::clone(&self.files));
        let (routes, stopped) = (self.routes, stop.clone());
        tracker.spawn(async move {
            let sweeps = async {
                loop {
                    tokio::time::sleep(connections.sweep_interval()).await;
                    connections.sweep();
                    sweep_data_age(&hub, &metrics, routes);
                    metrics.sockets(files.open());
                }
            };
            stopped.run_until_cancelled(sweeps).await
        });
    }
}

/// The age of the oldest snapshot that somebody is being shown, per route.
fn sweep_data_age(hub: &Hub, metrics: &Metrics, routes: usize) {
    let mut oldest = vec![Duration::ZERO; routes];
    for topic in hub.watched_states() {
        let view = topic.view();
        if let (Phase::Live | Phase::Degraded, Some(at)) = (view.phase, view.checked_at) {
            let oldest = &mut oldest[topic.key().route.0];
            *oldest = (*oldest).max(at.elapsed());
        }
    }
    for (route, age) in oldest.into_iter().enumerate() {
        metrics.route(RouteId(route)).data_age.set(age.as_secs_f64());
    }
}
