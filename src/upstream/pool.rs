//! Connections to the app that wait for their next request.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::connection::AppConnection;

/// The idle connections, each for `idle_timeout` at most. As many as requests were in flight at once; no task drives them.
#[derive(Debug)]
pub(super) struct Pool {
    idle_timeout: Duration,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that waits longest in front. Taken from the back, so that what is not needed grows old and goes.
    connections: Vec<(Instant, Box<AppConnection>)>,
    /// The task that drops those whose time is over; it ends when none is left, or with the pool.
    sweeper: Option<AbortHandle>,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { idle_timeout, idle: Mutex::default() })
    }

    /// A connection that was ready for a request when it was put here, if there is one.
    pub(super) fn take(&self) -> Option<Box<AppConnection>> {
        let (since, connection) = self.lock().connections.pop()?;
        // If the sweeper is late: all others are older still.
        (since.elapsed() < self.idle_timeout).then_some(connection)
    }

    /// Keeps a connection for the next request, if it can take one.
    pub(super) fn put(self: &Arc<Self>, mut connection: Box<AppConnection>) {
        if !connection.is_ready() {
            return;
        }
        let mut idle = self.lock();
        idle.connections.push((Instant::now(), connection));
        if idle.sweeper.is_none()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            idle.sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Drops the connections whose time is over. `None` when no other is left.
    fn expire(&self) -> Option<Instant> {
        let mut idle = self.lock();
        let now = Instant::now();
        let over = idle.connections.partition_point(|(since, _)| *since + self.idle_timeout <= now);
        let gone: Vec<_> = idle.connections.drain(..over).collect();
        let next = idle.connections.first().map(|(since, _)| *since + self.idle_timeout);
        if next.is_none() {
            idle.sweeper = None;
            // A burst has gone by; its room is not needed any more.
            idle.connections = Vec::new();
        }
        drop(idle);
        // Not under the lock: each is a close of a socket.
        drop(gone);
        next
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().expect("no code panics under this lock")
    }
}

async fn sweep(pool: std::sync::Weak<Pool>) {
    loop {
        // Not kept while it sleeps: the pool ends with its last user.
        let Some(next) = pool.upgrade().and_then(|pool| pool.expire()) else { return };
        sleep_until(next).await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = mem::take(&mut *self.lock()).sweeper {
            sweeper.abort();
        }
    }
}
