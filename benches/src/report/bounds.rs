//! The bounds we have set ourselves, and whether they hold.

use super::{
    Section,
    table::{Unit, markdown},
};
use crate::{
    args::{Options, Size},
    book::{Book, Metric},
    part::{curves, heartbeats, requests, streams, topics},
    peer::Peer,
};

/// The name of the section.
pub(crate) const NAME: &str = "bounds";

/// By how much a cost may seem to grow from the first to the last point of a curve before it is called growth: the spread
/// of repeated runs.
const GROWTH: f64 = 1.1;

/// With fewer streams, what a process holds once weighs on each of them.
const MEANT_FOR: usize = 15_000;

struct Bound {
    text: String,
    measured: String,
    limit: String,
    holds: bool,
}

/// All bounds whose figures were measured, unless there are none.
pub(crate) fn section(options: &Options, book: &Book) -> Option<Section> {
    let mut bounds = of_streams(book);
    bounds.extend(of_heartbeats(book));
    bounds.extend(of_requests(options, book));
    bounds.extend(of_topics(book));
    bounds.extend(of_curves(options, book));
    // A smoke test is about losses; its figures are too small to judge.
    if bounds.is_empty() || options.size == Size::Smoke {
        return None;
    }
    let head = ["measured", "bound", ""].map(ToOwned::to_owned);
    let rows: Vec<_> = bounds
        .into_iter()
        .map(|Bound { text, measured, limit, holds }| {
            (text, vec![measured, limit, if holds { "ok" } else { "**missed**" }.to_owned()])
        })
        .collect();
    let mut text = markdown(&head, &rows);
    if options.streams < MEANT_FOR {
        text.push_str(&format!(
            "\n\nThe bounds are meant for {} streams, not for {}.",
            Unit::Count.write(MEANT_FOR as f64),
            Unit::Count.write(options.streams as f64)
        ));
    }
    Some(Section { name: NAME, title: "Bounds", text })
}

fn at_most(text: impl Into<String>, unit: Unit, measured: f64, limit: f64) -> Bound {
    let text = text.into();
    Bound {
        text, measured: unit.write(measured), limit: format!("≤ {}", unit.write(limit)), holds: measured <= limit
    }
}

fn of_streams(book: &Book) -> Vec<Bound> {
    let get = |peer: Peer, metric: Metric| book.get(streams::TABLE, peer.title(), metric);
    let against = |peer: Peer, metric: Metric, unit, factor: f64, text: &str| {
        Some(at_most(text, unit, get(Peer::Sidestream, metric)?, get(peer, metric)? * factor))
    };
    // Of nchan's two ways to count, the one that is better for nchan.
    let nchan_idle =
        get(Peer::Nchan, streams::IDLE).zip(get(Peer::Nchan, streams::IDLE_PSS)).map(|(rss, pss)| f64::min(rss, pss));
    let idle = get(Peer::Sidestream, streams::IDLE);
    let mut bounds = vec![
        idle.map(|idle| at_most("idle stream, bytes", Unit::Bytes, idle, 600.0)),
        idle.zip(nchan_idle).map(|(idle, nchan)| {
            at_most("idle stream, bytes, against a fifteenth of nchan's", Unit::Bytes, idle, nchan / 15.0)
        }),
    ];
    bounds.extend([
        against(Peer::Nchan, streams::CPU, Unit::Micros, 0.65, "CPU per delivery, µs, against 0.65 of nchan's"),
        against(
            Peer::Floor,
            streams::CPU,
            Unit::Micros,
            1.1,
            "CPU per delivery, µs, against 1.1 of the bare write loop's",
        ),
        against(Peer::Nchan, streams::P50, Unit::Millis, 0.6, "broadcast p50, ms, against 0.6 of nchan's"),
        against(Peer::Nchan, streams::P99, Unit::Millis, 0.6, "broadcast p99, ms, against 0.6 of nchan's"),
        against(
            Peer::Nchan,
            streams::BEATS_CPU,
            Unit::CpuMillis,
            1.0,
            "CPU of idle streams, ms per second, against nchan's",
        ),
    ]);
    bounds.into_iter().flatten().collect()
}

fn of_heartbeats(book: &Book) -> Option<Bound> {
    let after = book.get(heartbeats::TABLE, Peer::Sidestream.title(), heartbeats::AFTER)?;
    Some(at_most("stream after an hour of heartbeats, bytes", Unit::Bytes, after, 600.0))
}

fn of_requests(options: &Options, book: &Book) -> Vec<Bound> {
    let [one, many] = requests::subscribers(options);
    let bounds = [requests::RESTLESS, requests::QUIET].map(|metric| {
        let of_one = book.get(requests::TABLE, &one.to_string(), metric)?;
        let of_many = book.get(requests::TABLE, &many.to_string(), metric)?;
        // Polls are spread by a tenth, and a window may hold one more or less at each end.
        let slack = f64::max(2.0, of_one / 10.0);
        Some(Bound {
            text: format!("requests to the app at {} subscribers, {metric}", Unit::Count.write(many as f64)),
            measured: Unit::Count.write(of_many),
            limit: format!("{} ± {}, as at {one}", Unit::Count.write(of_one), Unit::Count.write(slack)),
            holds: (of_one - of_many).abs() <= slack,
        })
    });
    bounds.into_iter().flatten().collect()
}

fn of_topics(book: &Book) -> Vec<Bound> {
    let get = |count: &str, metric| book.get(topics::TABLE, count, metric);
    let mut bounds = vec![
        get("10000", topics::PER_TOPIC)
            .map(|bytes| at_most("topic, one of 10,000, bytes", Unit::Bytes, bytes, 1_500.0)),
        get("5000", topics::QUIET.cpu)
            .map(|cpu| at_most("CPU at 5,000 polls per second, ms per second", Unit::CpuMillis, cpu, 500.0)),
    ];
    bounds.extend([topics::QUIET, topics::RESTLESS].map(|polls| {
        let (wanted, made) = get("10000", polls.wanted).zip(get("10000", polls.made))?;
        // An interval begins with the answer, so the time of a request comes on top.
        let least = 0.97 * wanted;
        Some(Bound {
            text: polls.made.to_owned() + ", 10,000 topics at 1 s",
            measured: Unit::Count.write(made),
            limit: format!("≥ {}", Unit::Count.write(least)),
            holds: made >= least,
        })
    }));
    bounds.into_iter().flatten().collect()
}

fn of_curves(options: &Options, book: &Book) -> Vec<Bound> {
    let sizes = curves::sizes(options);
    let Some((first, last)) = sizes.first().zip(sizes.last()).filter(|(first, last)| first < last) else {
        return Vec::new();
    };
    let rows = [(streams::IDLE, Unit::Bytes), (streams::AFTER, Unit::Bytes), (streams::CPU, Unit::Micros)];
    rows.into_iter()
        .filter_map(|(metric, unit)| {
            let at = |size| book.get(curves::TABLE, &curves::column(Peer::Sidestream, size), metric);
            let [few, many] = [first, last].map(|size| Unit::Count.write(*size as f64));
            let text = format!("{metric}, at {many} streams against {GROWTH} of that at {few}");
            Some(at_most(text, unit, at(*last)?, at(*first)? * GROWTH))
        })
        .collect()
}
