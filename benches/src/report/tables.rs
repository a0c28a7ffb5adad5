//! Which figures stand in which table.

use super::{
    Section,
    table::{Row, Unit, markdown, medians},
};
use crate::{
    args::{Options, Part},
    book::Book,
    part::{curves, fairness, heartbeats, naive, requests, streams, topics},
    peer::Peer,
};

const STREAMS: [Row; 18] = [
    Row::new(streams::CONNECTS, Unit::Rate),
    Row::new(streams::FIRST_P99, Unit::Millis),
    Row::new(streams::WARM_MEMORY, Unit::Mebibytes),
    Row::new(streams::IDLE, Unit::Bytes),
    Row::new(streams::IDLE_PSS, Unit::Bytes),
    Row::new(streams::AFTER, Unit::Bytes),
    Row::new(streams::AFTER_PSS, Unit::Bytes),
    Row::new(streams::SLAB, Unit::Bytes),
    Row::new(streams::BUFFERS, Unit::Bytes),
    Row::new(streams::BEATS_CPU, Unit::CpuMillis),
    Row::new(streams::CPU, Unit::Micros),
    Row::new(streams::CLIENT_CPU, Unit::Micros),
    Row::new(streams::P50, Unit::Millis),
    Row::new(streams::P99, Unit::Millis),
    Row::new(streams::P999, Unit::Millis),
    Row::new(streams::MAX, Unit::Millis),
    Row::new(streams::FROM_FIRST_P50, Unit::Millis),
    Row::new(streams::FROM_FIRST_P99, Unit::Millis),
];

const NAIVE: [Row; 6] = [
    Row::new(naive::BORNE, Unit::Rate),
    Row::new(naive::MEMORY, Unit::Bytes),
    Row::new(naive::REQUESTS, Unit::Count),
    Row::new(naive::IDLE_CPU, Unit::CpuMillis),
    Row::new(naive::P50, Unit::Millis),
    Row::new(naive::P99, Unit::Millis),
];

const HEARTBEATS: [Row; 3] = [
    Row::new(heartbeats::BEATS, Unit::Rate),
    Row::new(heartbeats::BEFORE, Unit::Bytes),
    Row::new(heartbeats::AFTER, Unit::Bytes),
];

const TOPICS: [Row; 11] = [
    Row::new(topics::PER_STREAM, Unit::Bytes),
    Row::new(topics::PER_TOPIC, Unit::Bytes),
    Row::new(topics::MARGINAL, Unit::Bytes),
    Row::new(topics::QUIET.wanted, Unit::Count),
    Row::new(topics::QUIET.made, Unit::Rate),
    Row::new(topics::QUIET.each, Unit::Micros),
    Row::new(topics::QUIET.cpu, Unit::CpuMillis),
    Row::new(topics::RESTLESS.wanted, Unit::Count),
    Row::new(topics::RESTLESS.made, Unit::Rate),
    Row::new(topics::RESTLESS.each, Unit::Micros),
    Row::new(topics::RESTLESS.cpu, Unit::CpuMillis),
];

const CURVES: [Row; 6] = [
    Row::new(streams::IDLE, Unit::Bytes),
    Row::new(streams::AFTER, Unit::Bytes),
    Row::new(streams::SLAB, Unit::Bytes),
    Row::new(streams::CPU, Unit::Micros),
    Row::new(streams::P50, Unit::Millis),
    Row::new(streams::P99, Unit::Millis),
];

const FAIRNESS: [Row; 9] = [
    Row::new(fairness::EVENT[0], Unit::Millis),
    Row::new(fairness::EVENT[1], Unit::Millis),
    Row::new(fairness::SKIPPED, Unit::Count),
    Row::new(fairness::CONNECT[0], Unit::Millis),
    Row::new(fairness::CONNECT[1], Unit::Millis),
    Row::new(fairness::FORWARD[0], Unit::Millis),
    Row::new(fairness::FORWARD[1], Unit::Millis),
    Row::new(fairness::BROADCASTS, Unit::Rate),
    Row::new(fairness::SHARE, Unit::Percent),
];

/// What sidestream is compared in.
const RATIOS: [Row; 7] = [
    Row::new(streams::IDLE, Unit::Bytes),
    Row::new(streams::AFTER, Unit::Bytes),
    Row::new(streams::BEATS_CPU, Unit::CpuMillis),
    Row::new(streams::CPU, Unit::Micros),
    Row::new(streams::P50, Unit::Millis),
    Row::new(streams::P99, Unit::Millis),
    Row::new(streams::P999, Unit::Millis),
];

/// The tables of all parts that were run.
pub(crate) fn sections(options: &Options, book: &Book) -> Vec<Section> {
    options.parts.iter().flat_map(|part| of_part(*part, options, book)).collect()
}

fn of_part(part: Part, options: &Options, book: &Book) -> Vec<Section> {
    let section = |name, title, text| vec![Section { name, title, text }];
    match part {
        Part::Streams => {
            let columns = titles(&streams::peers(options));
            let mut all =
                section("streams", "All streams on one topic", medians(book, streams::TABLE, &columns, &STREAMS));
            all.extend(section(
                "ratios",
                "Sidestream's figures, divided by those of the others",
                ratios(options, book),
            ));
            all
        }
        Part::Naive => {
            let table = medians(book, naive::TABLE, &titles(&[Peer::Naive]), &NAIVE);
            section("naive", "Node with timers per client", table)
        }
        Part::Heartbeats => {
            let table = medians(book, heartbeats::TABLE, &titles(&[Peer::Sidestream]), &HEARTBEATS);
            section("heartbeats", "An hour of heartbeats", table)
        }
        Part::Requests => {
            let columns = requests::subscribers(options).map(|count| labelled(count, "subscribers"));
            let rows =
                [requests::SECONDS, requests::RESTLESS, requests::QUIET].map(|metric| Row::new(metric, Unit::Count));
            section("requests", "Requests to the app", medians(book, requests::TABLE, &columns, &rows))
        }
        Part::Topics => {
            let columns: Vec<_> = topics::counts(options).into_iter().map(|count| labelled(count, "topics")).collect();
            section("topics", "Topics with one subscriber each", medians(book, topics::TABLE, &columns, &TOPICS))
        }
        Part::Curves => section("curves", "Curves", curves(options, book)),
        Part::Fairness => {
            let columns = [fairness::QUIET, fairness::LOUD].map(|column| (column.to_owned(), column.to_owned()));
            section("fairness", "Fairness", medians(book, fairness::TABLE, &columns, &FAIRNESS))
        }
    }
}

fn titles(peers: &[Peer]) -> Vec<(String, String)> {
    peers.iter().map(|peer| (peer.title().to_owned(), peer.title().to_owned())).collect()
}

fn labelled(count: usize, what: &str) -> (String, String) {
    (
        count.to_string(),
        format!("{} {}", Unit::Count.write(count as f64), if count == 1 { &what[..what.len() - 1] } else { what }),
    )
}

fn curves(options: &Options, book: &Book) -> String {
    let tables = curves::PEERS.map(|peer| {
        let columns: Vec<_> = curves::sizes(options)
            .into_iter()
            .map(|size| (curves::column(peer, size), Unit::Count.write(size as f64)))
            .collect();
        format!("{}, by the number of streams:\n\n{}", peer.title(), medians(book, curves::TABLE, &columns, &CURVES))
    });
    tables.join("\n\n")
}

fn ratios(options: &Options, book: &Book) -> String {
    let peers: Vec<_> = streams::peers(options).into_iter().filter(|peer| *peer != Peer::Sidestream).collect();
    let ours = |metric| book.get(streams::TABLE, Peer::Sidestream.title(), metric);
    let rows: Vec<_> = RATIOS
        .iter()
        .filter_map(|row| {
            let ours = ours(row.metric)?;
            let cells = peers.iter().map(|peer| {
                let theirs = book.get(streams::TABLE, peer.title(), row.metric).filter(|value| *value > 0.0);
                theirs.map(|theirs| format!("{:.2}", ours / theirs)).unwrap_or_default()
            });
            Some((row.metric.to_owned(), cells.collect()))
        })
        .collect();
    markdown(&peers.iter().map(|peer| peer.title().to_owned()).collect::<Vec<_>>(), &rows)
}

/// What the README shows.
pub(crate) fn short(options: &Options, book: &Book) -> String {
    let rows = [streams::IDLE, streams::AFTER, streams::CPU, streams::P50, streams::P99];
    let rows: Vec<_> = STREAMS.into_iter().filter(|row| rows.contains(&row.metric)).collect();
    medians(book, streams::TABLE, &titles(&streams::peers(options)), &rows)
}
