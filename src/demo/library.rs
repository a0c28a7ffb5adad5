//! The app's jobs: its "database", in memory and bounded. It survives the app's restarts, as a database does.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::Serialize;
use tokio::time::Instant;

use super::job::{Kind, Progress, Status, progress_at};
use super::session::Session;

/// Jobs kept at once: more than anyone starts by hand, and a list of them stays a small answer (200 × 150 bytes = 30 KB).
pub(super) const MAX_JOBS: usize = 200;

const TITLES: [&str; 8] = [
    "Holiday at the lake",
    "Keynote, second take",
    "The cat and the printer",
    "Interview with the baker",
    "School concert",
    "How to fold a map",
    "Night train",
    "Garden in May",
];

/// All jobs, whoever's they are.
pub(super) struct Library {
    speed: u32,
    /// Written by requests that start and remove jobs, read by all others; the lock is never held across an await.
    shelf: Mutex<Shelf>,
}

struct Shelf {
    /// Oldest first.
    jobs: VecDeque<Job>,
    started: usize,
}

/// One job, as it was started; all else follows from its age.
struct Job {
    id: String,
    title: &'static str,
    kind: Kind,
    owner: Session,
    since: Instant,
}

/// A job as the app's clients see it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Video {
    pub(super) id: String,
    title: &'static str,
    kind: Kind,
    pub(super) status: Status,
    progress: u8,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_url: Option<String>,
}

/// Every place is taken by a job that is not over.
#[derive(Debug, thiserror::Error)]
#[error("all {MAX_JOBS} places are taken by jobs that are not over: remove one, or wait")]
pub(super) struct Full;

// === impl Library ===

impl Library {
    pub(super) fn new(speed: u32) -> Self {
        Self { speed, shelf: Mutex::new(Shelf { jobs: VecDeque::new(), started: 0 }) }
    }

    /// Starts a job. When the library is full, the oldest job that is over makes room.
    pub(super) fn start(&self, kind: Kind, owner: Session) -> Result<Video, Full> {
        let now = Instant::now();
        let mut shelf = self.lock();
        if shelf.jobs.len() >= MAX_JOBS {
            let over = shelf.jobs.iter().position(|job| self.progress(job, now).status.is_over()).ok_or(Full)?;
            shelf.jobs.remove(over);
        }
        let title = TITLES[shelf.started % TITLES.len()];
        shelf.started += 1;
        let job = Job { id: format!("v{}", shelf.started), title, kind, owner, since: now };
        let video = self.video(&job, now);
        shelf.jobs.push_back(job);
        Ok(video)
    }

    /// The job with this id. Whoever knows the id may ask, so that `curl` needs no cookie.
    pub(super) fn get(&self, id: &str) -> Option<Video> {
        let now = Instant::now();
        self.lock().jobs.iter().find(|job| job.id == id).map(|job| self.video(job, now))
    }

    /// The jobs this user has started, oldest first.
    pub(super) fn of(&self, owner: &Session) -> Vec<Video> {
        let now = Instant::now();
        self.lock().jobs.iter().filter(|job| job.owner == *owner).map(|job| self.video(job, now)).collect()
    }

    /// Removes the user's own job; tells whether there was one.
    pub(super) fn remove(&self, id: &str, owner: &Session) -> bool {
        let mut shelf = self.lock();
        let found = shelf.jobs.iter().position(|job| job.id == id && job.owner == *owner);
        found.and_then(|index| shelf.jobs.remove(index)).is_some()
    }

    fn progress(&self, job: &Job, now: Instant) -> Progress {
        progress_at(job.kind, now.saturating_duration_since(job.since).saturating_mul(self.speed))
    }

    fn video(&self, job: &Job, now: Instant) -> Video {
        let Progress { status, percent, message } = self.progress(job, now);
        let video_url = (status == Status::Completed).then(|| format!("/videos/{}.mp4", job.id));
        Video { id: job.id.clone(), title: job.title, kind: job.kind, status, progress: percent, message, video_url }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("nothing panics while it holds the shelf")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ids(library: &Library) -> Vec<String> {
        library.of(&Session::anonymous()).into_iter().map(|video| video.id).collect()
    }

    // A stuck job is never over, so a library full of them has to refuse: forgetting a job that somebody watches would
    // look like a fault of the stream.
    #[tokio::test(start_paused = true)]
    async fn a_library_full_of_unfinished_jobs_refuses_another() {
        let library = Library::new(1);
        for _ in 0..MAX_JOBS {
            library.start(Kind::Stuck, Session::anonymous()).unwrap();
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;

        library.start(Kind::Quick, Session::anonymous()).unwrap_err();
        assert_eq!(ids(&library).len(), MAX_JOBS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_library_forgets_its_oldest_finished_job() {
        let library = Library::new(1);
        library.start(Kind::Stuck, Session::anonymous()).unwrap();
        library.start(Kind::Quick, Session::anonymous()).unwrap();
        for _ in 2..MAX_JOBS {
            library.start(Kind::Failing, Session::anonymous()).unwrap();
        }
        tokio::time::advance(Duration::from_secs(60)).await;

        let newest = library.start(Kind::Quick, Session::anonymous()).unwrap();

        let ids = ids(&library);
        assert_eq!(ids.len(), MAX_JOBS);
        assert_eq!(ids[..2], ["v1", "v3"]);
        assert_eq!(ids.last(), Some(&newest.id));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_removes_the_job_of_another() {
        let library = Library::new(1);
        let video = library.start(Kind::Stuck, Session::fresh()).unwrap();

        assert!(!library.remove(&video.id, &Session::fresh()));
        assert!(library.get(&video.id).is_some());
    }
}
