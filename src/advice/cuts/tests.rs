use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Ends at these moments, after these lifetimes and silences, all in seconds.
fn route(ends: impl IntoIterator<Item = (f64, f64, f64)>) -> RouteFacts {
    let began = Instant::now();
    let mut ends: Vec<_> = ends
        .into_iter()
        .map(|(at, lifetime, silence)| End {
            at: began + seconds(at),
            lifetime: seconds(lifetime),
            silence: seconds(silence),
        })
        .collect();
    ends.sort_by_key(|end| end.at);
    RouteFacts {
        route: "/x".into(),
        heartbeat: seconds(90.0),
        max_age: Some(seconds(600.0)),
        ends,
        ..RouteFacts::default()
    }
}

fn both(route: &RouteFacts) -> (Option<Recommendation>, Option<Recommendation>) {
    (read_timeout(route), lifetime_limit(route))
}

/// A number between 0 and 1 that looks like chance, and is the same each time.
fn chance(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_75).fract()
}

#[test]
fn streams_that_are_cut_after_the_same_silence_show_a_read_timeout() {
    let cut = (0..61).map(|n| (chance(n) * 300.0, 60.0 + chance(n + 7) * 200.0, 60.0 + chance(n + 3) * 0.2));
    let left = (0..9).map(|n| (chance(n + 1) * 300.0, chance(n) * 200.0, chance(n + 5) * 50.0));

    let found = read_timeout(&route(cut.chain(left))).unwrap();

    assert!(found.evidence.starts_with("61 of 70 streams that clients ended were cut 60s after"), "{found:?}");
    assert!(found.change.starts_with("--heartbeat-interval 15s, or raise proxy_read_timeout"), "{found:?}");
}

// A stream that never gets anything is cut at the age of its silence, and that is what it says.
#[test]
fn silence_from_the_beginning_is_a_read_timeout_and_not_an_age() {
    let facts = route((0..12).map(|n| (n as f64 * 3.0, 10.0 + chance(n) * 0.1, 10.0 + chance(n) * 0.1)));
    let (timeout, age) = both(&facts);
    assert_eq!((timeout.map(|found| found.change.contains("5s")), age), (Some(true), None));
}

// nginx starts its second when it has sent the request, and our first bytes come a little later.
#[test]
fn a_timer_that_is_early_is_a_read_timeout_all_the_same() {
    let facts = route((0..20).map(|n| (n as f64 * 1.3, 1.0 + chance(n) * 0.05, 0.7 + chance(n) * 0.3)));
    let (timeout, age) = both(&facts);
    assert_eq!((timeout.is_some(), age), (true, None));
}

#[test]
fn a_route_with_a_heartbeat_of_its_own_is_told_to_change_that() {
    let cut = route((0..12).map(|n| (n as f64 * 3.0, 40.0 + chance(n) * 90.0, 20.0)));
    let found = read_timeout(&RouteFacts { has_own_heartbeat: true, ..cut }).unwrap();
    assert!(found.change.starts_with("heartbeat=10s in the --route"), "{found:?}");
}

#[test]
fn streams_of_the_same_age_show_a_limit_on_their_lives() {
    // Heartbeats every 15 s, so all of them were silent for 10 s at the end, too.
    let cut = (0..40).map(|n| (chance(n) * 900.0, 100.0 + chance(n) * 0.3, 10.0 + chance(n) * 0.3));
    let left = (0..10).map(|n| (chance(n + 1) * 900.0, chance(n) * 90.0, chance(n + 5) * 15.0));
    let (timeout, age) = both(&route(cut.chain(left)));

    let age = age.unwrap();
    assert!(age.evidence.starts_with("40 of 50 streams that clients ended had lived for 100s"), "{age:?}");
    assert!(age.change.starts_with("--max-age 80s"), "{age:?}");
    assert_eq!(timeout, None, "one cause is told once");
}

// A proxy that restarts ends all its streams in one moment, and those of one topic were silent for as long.
#[test]
fn streams_that_end_together_once_have_met_no_timer() {
    let together = (0..200).map(|n| (100.0 + chance(n) * 0.3, 80.0, 7.0 + chance(n) * 0.3));
    let left = (0..5).map(|n| (chance(n) * 300.0, chance(n) * 200.0, chance(n + 5) * 90.0));
    assert_eq!(both(&route(together.chain(left))), (None, None));
}

// Jobs that all take ten seconds end their streams at that age, and right after the last event.
#[test]
fn streams_that_end_with_the_last_event_have_met_no_timer() {
    assert_eq!(both(&route((0..40).map(|n| (n as f64 * 7.0, 10.0 + chance(n) * 0.1, 0.01)))), (None, None));
}

#[test]
fn few_ends_say_nothing() {
    assert_eq!(both(&route([])), (None, None));
    assert_eq!(both(&route((0..7).map(|n| (n as f64 * 5.0, 60.0, 60.0)))), (None, None));
}

proptest! {
    // Whoever leaves when it likes has been silent for any part of a heartbeat.
    #[test]
    fn people_who_come_and_go_show_no_timer(
        people in prop::collection::vec((0.0..900.0_f64, 0.0..600.0_f64, 0.0..1.0_f64), 0..256),
        heartbeat in 3.0..90.0_f64,
    ) {
        // Fewer may meet by chance, if rarely.
        prop_assume!(people.len() >= 4 * ENDS_MIN || people.len() < ENDS_MIN);
        let ends = people.iter().map(|(at, life, part)| (*at, *life, (part * heartbeat).min(*life)));
        let facts = route(ends);
        prop_assert_eq!(both(&facts), (None, None));
    }

    // However a timer is set, and whoever else leaves, it is found, and its time is told.
    #[test]
    fn a_read_timeout_is_found_at_its_time(timer in 1.0..300.0_f64, cut in 20_usize..100, others in 0_usize..12) {
        let cuts = (0..cut).map(|n| (n as f64 * 2.3, timer * (1.0 + 3.0 * chance(n)), timer + chance(n) * 0.2));
        let left = (0..others).map(|n| (n as f64 * 17.0 + 0.5, timer * chance(n + 2), timer * chance(n) * 0.8));
        let facts = route(cuts.chain(left));
        let found = Cluster::of(&facts.ends, |end| end.silence, TIMER_MIN).unwrap();
        prop_assert!(found.ends >= cut * 9 / 10 && found.after <= seconds(timer + 0.2), "{found:?}");
        prop_assert!(read_timeout(&facts).is_some() || lifetime_limit(&facts).is_some());
    }
}
