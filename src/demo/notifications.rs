//! The app's own event stream, as naive as such streams are: each has a timer, looks again and again whether the
//! user's jobs have changed, numbers nothing, and forgets what happened while it was cut.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::api::Api;
use super::library::Video;
use super::session::Session;
use super::tally::OpenStream;

/// One open stream. It has no task: it is driven by its connection, and dropped with it.
struct Notifier {
    api: Arc<Api>,
    user: Session,
    look: Interval,
    /// The jobs of the last look, and whether each was over.
    seen: HashMap<String, bool>,
    spoke: Instant,
    _open: OpenStream,
}

/// The frames of one user's stream. It never ends by itself.
pub(super) fn notifications(api: Arc<Api>, user: Session) -> impl Stream<Item = Bytes> + Send {
    let mut look = interval(api.pace.look_every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The user sees the jobs of now on the page already; the stream tells what comes.
    let seen = api.library.of(&user).into_iter().map(|video| (video.id, video.status.is_over())).collect();
    let open = api.tally.open_stream();
    let notifier = Notifier { api, user, look, seen, spoke: Instant::now(), _open: open };
    // Something is said at once, so that the head leaves at once, too.
    let hello = futures_util::stream::iter([Bytes::from_static(b": hello\n\n")]);
    futures_util::StreamExt::chain(
        hello,
        unfold(notifier, async |mut notifier| {
            let frames = notifier.next().await;
            Some((frames, notifier))
        }),
    )
}

// === impl Notifier ===

impl Notifier {
    async fn next(&mut self) -> Bytes {
        loop {
            self.look.tick().await;
            let frames = self.changes();
            if !frames.is_empty() {
                self.spoke = Instant::now();
                return Bytes::from(frames);
            }
            if self.spoke.elapsed() >= self.api.pace.heartbeat {
                self.spoke = Instant::now();
                return Bytes::from_static(b": ping\n\n");
            }
        }
    }

    /// Frames for all that has happened since the last look.
    fn changes(&mut self) -> String {
        let mut frames = String::new();
        let mut gone = std::mem::take(&mut self.seen);
        for video in self.api.library.of(&self.user) {
            let over = video.status.is_over();
            let was_over = gone.remove(&video.id);
            if was_over.is_none() {
                frames.push_str(&frame("video-started", &video));
            }
            if over && was_over != Some(true) {
                frames.push_str(&frame("video-ended", &video));
            }
            self.seen.insert(video.id, over);
        }
        for id in gone.into_keys() {
            frames.push_str(&format!("data: {}\n\n", json!({ "type": "video-removed", "video": { "id": id } })));
        }
        frames
    }
}

/// One event. The job's status is a level down, and no `type` is called "completed": either would tell every reader of
/// such streams that this one is at its end, and it never is.
fn frame(kind: &str, video: &Video) -> String {
    format!("data: {}\n\n", json!({ "type": kind, "video": video }))
}
