use super::*;
use crate::connections::Limits;

const STALE: Duration = Duration::from_secs(35);
const REAP: Duration = Duration::from_secs(60);

/// What the kernel says: segments unacknowledged, probes unanswered, bytes before a closed window, seconds since the last
/// acknowledgement, bytes acknowledged.
fn says(unacked: u32, probes: u8, not_sent: u32, last_ack: f64, acked: u64) -> Option<TcpInfo> {
    Some(TcpInfo { unacked, probes, not_sent, last_ack: Duration::from_secs_f64(last_ack), acked: Some(acked) })
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Alive,
    Stale,
    Reaped,
}
use Verdict::{Alive, Reaped, Stale};

fn verdict(signs: Signs) -> Verdict {
    match (signs.are_missing_for(STALE), signs.are_missing_for(REAP)) {
        (false, false) => Alive,
        (true, false) => Stale,
        (_, true) => Reaped,
    }
}

// One look at a stream on which something was sent at second 100, by what the kernel says then.
#[test]
fn a_peer_is_silent_when_what_waits_for_it_has_waited_and_no_acknowledgement_came() {
    for (what, now, info, expected) in [
        ("all is acknowledged, long ago", 200.0, says(0, 0, 0, 100.0, 9), Alive),
        ("a heartbeat was written a moment ago, after a long quiet", 100.001, says(1, 0, 0, 70.0, 9), Alive),
        ("it has not waited for a quarter of the limit", 108.0, says(1, 0, 0, 78.0, 9), Alive),
        ("it has", 109.0, says(1, 0, 0, 43.0, 9), Stale),
        ("for the reaper's limit a quarter is more", 114.0, says(1, 0, 0, 64.0, 9), Stale),
        ("which is over", 116.0, says(1, 0, 0, 66.0, 9), Reaped),
        ("cut off behind an acknowledgement, heartbeat 15 s later, too early", 119.0, says(1, 0, 0, 34.0, 9), Alive),
        ("and in time", 120.2, says(1, 0, 0, 35.1, 9), Stale),
        ("and at its end", 145.2, says(1, 0, 0, 60.1, 9), Reaped),
        ("a question about a closed window stays unanswered", 150.0, says(0, 1, 10, 40.0, 9), Stale),
        ("bytes wait before a closed window, and its questions are answered", 300.0, says(0, 0, 10, 100.0, 9), Alive),
        ("something always waits, since something always is sent", 9000.0, says(3, 0, 0, 0.02, 9), Alive),
        ("nothing of it arrives, but it answers", 9000.0, says(3, 0, 0, 2.0, 9), Alive),
        (
            "the kernel is too old to count bytes",
            150.0,
            says(1, 0, 0, 40.0, 9).map(|i| TcpInfo { acked: None, ..i }),
            Stale,
        ),
        ("the kernel says nothing", 9000.0, None, Alive),
    ] {
        let mut pulse = Pulse::default();
        pulse.sent(at(100.0));
        assert_eq!(verdict(pulse.look(info, at(now))), expected, "{what}");
    }
}

// A write that is blocked since second 100, and looks at seconds after it.
#[test]
fn a_blocked_peer_is_stuck_while_no_byte_is_acknowledged() {
    let closed = |acked| says(0, 0, 5000, 3.0, acked);
    for (what, looks, expected) in [
        ("nothing for 35 s", vec![(101.0, closed(7)), (135.5, closed(7))], Alive),
        ("for longer", vec![(101.0, closed(7)), (137.0, closed(7))], Stale),
        ("for longer than 60 s", vec![(101.0, closed(7)), (162.0, closed(7))], Reaped),
        ("a byte after 30 s", vec![(101.0, closed(7)), (130.0, closed(8)), (164.0, closed(8))], Alive),
        ("and then none", vec![(101.0, closed(7)), (130.0, closed(8)), (166.0, closed(8))], Stale),
        (
            "a byte now and then",
            (0..500).map(|n| (101.0 + f64::from(n) * 30.0, closed(u64::from(7 + n as u32)))).collect(),
            Alive,
        ),
        ("no kernel to ask", vec![(101.0, None), (134.0, None)], Alive),
        ("no kernel to ask, for longer", vec![(101.0, None), (136.0, None)], Stale),
    ] {
        let mut pulse = Pulse::default();
        pulse.blocked(at(100.0));
        let last = looks.into_iter().map(|(now, info)| {
            pulse.blocked(at(100.0));
            pulse.look(info, at(now))
        });
        assert_eq!(verdict(last.last().unwrap()), expected, "{what}");
    }
}

#[test]
fn a_stream_is_looked_at_until_all_is_acknowledged() {
    let mut pulse = Pulse::default();
    let wants_look = |pulse: &Pulse, now| pulse.wants_look(at(now), Duration::ZERO);
    assert!(!wants_look(&pulse, 0.0));
    pulse.sent(at(1.0));
    assert!(wants_look(&pulse, 1.0));
    let signs = pulse.look(says(1, 0, 0, 9.0, 0), at(3.0));
    assert_eq!(signs.unacknowledged, Some(at(2.0)));
    assert!(wants_look(&pulse, 3.0), "it waits");
    let signs = pulse.look(says(1, 0, 0, 0.5, 0), at(4.0));
    assert_eq!(signs.unacknowledged, Some(at(0.5)), "what was sent before the last acknowledgement was acknowledged");
    pulse.look(says(0, 0, 70, 1.0, 0), at(5.0));
    assert!(wants_look(&pulse, 5.0), "bytes wait before a closed window");
    assert_eq!(pulse.look(says(0, 0, 0, 1.0, 80), at(6.0)), Signs::default());
    assert!(!wants_look(&pulse, 6.0));
    pulse.blocked(at(7.0));
    assert!(wants_look(&pulse, 7.0) && pulse.is_blocked());
    assert_eq!(pulse.blocked_for(at(9.0)), Some(at(2.0)));
    pulse.unblocked();
    assert!(!wants_look(&pulse, 9.0) && !pulse.is_blocked());
}

// An event a second and stream would otherwise be a call to the kernel a second and stream, beside the write.
#[test]
fn what_was_just_sent_is_not_asked_about() {
    let (interval, grace) = pace(STALE);
    assert!(grace > interval * 3, "{grace:?}");
    let mut pulse = Pulse::default();
    let mut looks = 0;
    for second in 0..100 {
        let now = at(f64::from(second));
        pulse.sent(now);
        if pulse.wants_look(now, grace) {
            looks += 1;
            assert_eq!(verdict(pulse.look(says(0, 0, 0, 0.1, 9), now)), Alive);
        }
    }
    assert!((10..=25).contains(&looks), "{looks} looks at a hundred events");
    pulse.blocked(at(100.0));
    assert!(pulse.wants_look(at(100.0), grace), "whoever is blocked is looked at at once");
}

/// How far the sweep's looks are apart, and its grace.
fn pace(limit: Duration) -> (Duration, Duration) {
    let limits = Limits { connections: 1, per_ip: 0, stale_after: limit, reap_after: limit * 2 };
    (limits.sweep_interval(), limits.grace())
}

// Whatever the limit and wherever the looks fall: a peer that has answered nothing since its last acknowledgement is found
// by the first sweep after the limit, as without the grace.
#[test]
fn the_grace_delays_no_verdict() {
    for limit in [0.2, 1.0, 2.0, 7.0, 35.0, 600.0].map(at) {
        let (interval, grace) = pace(limit);
        let heartbeat = limit / 3;
        for phase in 0..10 {
            let mut pulse = Pulse::default();
            // The last acknowledgement came at 0, and the next thing is sent a heartbeat later.
            let found = (0..).map(|turn| interval * turn + interval * phase / 10).find(|now| {
                if *now >= heartbeat {
                    pulse.sent(heartbeat);
                }
                let info = says(u32::from(*now >= heartbeat), 0, 0, now.as_secs_f64(), 9);
                pulse.wants_look(*now, grace) && pulse.look(info, *now).are_missing_for(limit)
            });
            let found = found.expect("it is found");
            let latest = limit.max(heartbeat + patience(limit)) + interval;
            assert!(found > limit && found <= latest + at(0.001), "{found:?} at a limit of {limit:?}");
        }
    }
}

// The window of a suspended tab stays closed for hours. Each of the kernel's questions waits a moment for its answer; a
// look that falls into this moment must not add up with the time before.
#[test]
fn the_moment_of_a_question_about_a_closed_window_is_no_silence() {
    let mut pulse = Pulse::default();
    pulse.sent(at(0.0));
    for minute in 1..600 {
        let now = f64::from(minute) * 60.0;
        assert_eq!(verdict(pulse.look(says(0, 0, 70, 59.0, 5), at(now - 1.0))), Alive);
        assert_eq!(verdict(pulse.look(says(0, 1, 70, 60.0, 5), at(now))), Alive);
    }
    assert_eq!(verdict(pulse.look(says(0, 1, 70, 100.0, 5), at(36040.0))), Reaped, "it was its last answer");
}

// The same by the sweep's looks, wherever they fall: a question a minute, answered after four tenths of a second.
#[test]
fn a_closed_window_whose_questions_are_answered_is_never_stale() {
    for limit in [7.0, 35.0, 300.0].map(at) {
        let (interval, grace) = pace(limit);
        for phase in 0..40 {
            let mut pulse = Pulse::default();
            pulse.sent(at(0.0));
            let mut now = interval * phase / 40;
            while now < at(600.0) {
                let past = now.as_secs_f64() % 60.0;
                let info = if past < 0.4 { says(0, 1, 70, past + 59.6, 5) } else { says(0, 0, 70, past - 0.4, 5) };
                if pulse.wants_look(now, grace) {
                    assert!(!pulse.look(info, now).are_missing_for(limit), "at {now:?}, limit {limit:?}");
                }
                now += interval;
            }
        }
    }
}

// Streams without --max-age may live for months.
#[test]
fn the_clock_of_a_pulse_may_turn_over() {
    let turn = Duration::from_millis(1 << 32);
    for begin in [turn - at(10.0), turn, turn * 3 - at(1.0)] {
        let mut pulse = Pulse::default();
        pulse.sent(begin);
        let signs = pulse.look(says(1, 0, 0, 36.0, 0), begin + at(36.0));
        assert_eq!((signs.unacknowledged, verdict(signs)), (Some(at(36.0)), Stale));
    }
}

#[test]
fn a_pulse_costs_sixteen_bytes() {
    assert_eq!(size_of::<Pulse>(), 16);
}

// The write was blocked by another thread, after the sweep had taken its time.
#[test]
fn what_begins_after_the_look_has_not_lasted_yet() {
    let mut pulse = Pulse::default();
    pulse.sent(at(100.0));
    pulse.look(says(1, 0, 0, 1.0, 9), at(101.0));
    pulse.blocked(at(102.01));

    assert_eq!(verdict(pulse.look(says(1, 0, 0, 2.0, 9), at(102.0))), Alive);
    assert_eq!(pulse.blocked_for(at(102.0)), Some(Duration::ZERO));
    assert_eq!(verdict(pulse.look(says(1, 0, 0, 2.0, 9), at(163.0))), Reaped);
}
