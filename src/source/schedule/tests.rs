//! When polls happen, on a clock that only moves when everybody waits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::*;

/// Notes when it was polled, and keeps its permit until it is told to let go.
struct Job {
    turn: AtomicU64,
    began: Instant,
    polled: Mutex<Vec<(u64, Duration)>>,
    permits: Mutex<Vec<OwnedSemaphorePermit>>,
}

impl Due for Job {
    fn poll(self: Arc<Self>, turn: u64, permit: OwnedSemaphorePermit) {
        self.polled.lock().unwrap().push((turn, self.began.elapsed()));
        self.permits.lock().unwrap().push(permit);
    }

    fn is_current(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Relaxed) == turn
    }
}

// === impl Job ===

impl Job {
    fn new() -> Arc<Self> {
        let (polled, permits) = (Mutex::default(), Mutex::default());
        Arc::new(Self { turn: AtomicU64::new(0), began: Instant::now(), polled, permits })
    }

    /// Makes its next appointment, in place of the one before.
    fn appoint(self: &Arc<Self>, schedule: &Schedule, seconds: u64) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        let me: Arc<dyn Due> = self.clone();
        schedule.at(Instant::now() + Duration::from_secs(seconds), turn, Arc::downgrade(&me));
    }

    fn polled(&self) -> Vec<u64> {
        self.polled.lock().unwrap().iter().map(|(_, after)| after.as_secs()).collect()
    }

    fn finish(&self) {
        self.permits.lock().unwrap().clear();
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::register(&prometheus::Registry::new(), &[]).unwrap())
}

fn running(concurrency: usize) -> Arc<Schedule> {
    let schedule = Schedule::new(concurrency, metrics());
    let run = Arc::clone(&schedule);
    tokio::spawn(async move { run.run().await });
    schedule
}

async fn wait(seconds: u64) {
    // A moment more, so that whatever is due at this second has happened.
    tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(5)).await;
}

#[tokio::test(start_paused = true)]
async fn polls_happen_when_they_are_due_in_whatever_order_they_were_asked_for() {
    let schedule = running(10);
    let (late, soon) = (Job::new(), Job::new());
    late.appoint(&schedule, 5);
    tokio::task::yield_now().await;
    soon.appoint(&schedule, 2);
    wait(10).await;
    assert_eq!((late.polled(), soon.polled()), (vec![5], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn an_appointment_that_was_replaced_is_let_go() {
    let schedule = running(10);
    let job = Job::new();
    job.appoint(&schedule, 2);
    job.appoint(&schedule, 5);
    job.appoint(&schedule, 3);
    wait(10).await;
    assert_eq!(job.polled(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_went_is_not_polled_and_holds_nobody_up() {
    let schedule = running(10);
    let (gone, stays) = (Job::new(), Job::new());
    gone.appoint(&schedule, 1);
    stays.appoint(&schedule, 2);
    drop(gone);
    wait(3).await;
    assert_eq!(stays.polled(), [2]);
    assert!(schedule.lock().heap.is_empty());
}

// With `Retry-After: 3600` the next poll is an hour away, and a page that is loaded anew replaces it each time.
#[tokio::test(start_paused = true)]
async fn appointments_that_were_replaced_do_not_pile_up() {
    let schedule = running(10);
    let jobs: Vec<_> = (0..2 * TIDY_MIN).map(|_| Job::new()).collect();
    for _ in 0..50 {
        jobs.iter().for_each(|job| job.appoint(&schedule, 3600));
        tokio::task::yield_now().await;
    }
    assert!(schedule.lock().heap.len() <= 2 * jobs.len(), "{} appointments", schedule.lock().heap.len());
    wait(3600).await;
    let polled: Vec<_> = jobs.iter().flat_map(|job| job.polled()).collect();
    assert_eq!(polled, [3600; 10], "what counts is still there, for each turn one");
}

// The app is slow: those who are due wait their turn, and nobody who falls due later overtakes them.
#[tokio::test(start_paused = true)]
async fn no_more_polls_are_in_flight_than_allowed_and_the_first_due_is_the_first_served() {
    let schedule = running(1);
    let jobs = [Job::new(), Job::new(), Job::new()];
    for (job, seconds) in jobs.iter().zip([1, 3, 2]) {
        job.appoint(&schedule, seconds);
    }
    wait(4).await;
    assert_eq!(jobs.each_ref().map(|job| job.polled()), [vec![1], vec![], vec![]]);
    jobs[0].finish();
    wait(1).await;
    assert_eq!(jobs.each_ref().map(|job| job.polled()), [vec![1], vec![], vec![4]]);
    jobs[2].finish();
    wait(1).await;
    assert_eq!(jobs.each_ref().map(|job| job.polled()), [vec![1], vec![5], vec![4]]);
}

// Whoever replaces its appointment while it waits for a permit must neither be polled twice nor block the list.
#[tokio::test(start_paused = true)]
async fn an_appointment_replaced_while_it_waits_for_a_permit_is_let_go_too() {
    let schedule = running(1);
    let (busy, waits) = (Job::new(), Job::new());
    busy.appoint(&schedule, 0);
    waits.appoint(&schedule, 1);
    wait(2).await;
    waits.appoint(&schedule, 3);
    busy.finish();
    wait(10).await;
    assert_eq!((busy.polled(), waits.polled()), (vec![0], vec![5]));
}

#[tokio::test(start_paused = true)]
async fn admissions_and_polls_share_the_permits() {
    let schedule = running(1);
    let job = Job::new();
    let admission = schedule.admission().await;
    job.appoint(&schedule, 1);
    wait(3).await;
    assert!(job.polled().is_empty());
    drop(admission);
    wait(0).await;
    assert_eq!(job.polled(), [3]);
}
