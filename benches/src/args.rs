//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{peer::Peer, server::ServerArgs};

/// Measures what a stream costs: sidestream beside its peers, on this machine, in one run.
#[derive(Debug, Parser)]
#[command(name = "benches/run", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What other processes of a run are; not for the command line of people.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Clients,
    #[command(hide = true)]
    Floor(ServeArgs),
    #[command(hide = true)]
    Hyper(ServeArgs),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ServeArgs {
    #[arg(long)]
    heartbeat_ms: u64,
    #[arg(long)]
    threads: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A look at all of it in some minutes: fewer streams, one run
    #[arg(long, conflicts_with = "smoke")]
    quick: bool,

    /// Under twenty seconds, with nothing but Rust: fails if a delivery is lost
    #[arg(long)]
    smoke: bool,

    /// Streams of the broadcasts [default: 15000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=17_000))]
    streams: Option<u32>,

    /// Runs whose median counts [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: Option<u32>,

    /// One part only; repeatable
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,

    /// Compare these servers only; repeatable
    #[arg(long, value_enum, value_name = "SERVER", conflicts_with = "write")]
    peer: Vec<Peer>,

    /// Bytes of JSON in an event
    #[arg(long, value_name = "BYTES", default_value = "200", value_parser = clap::value_parser!(u32).range(120..=8_000))]
    payload: u32,

    /// Put the tables into docs/density.md and README.md
    #[arg(long)]
    write: bool,

    /// The program to measure [default: the one built beside this]
    #[arg(long, env = "SIDESTREAM_BIN", value_name = "FILE")]
    sidestream: Option<PathBuf>,

    /// The folder of the sources
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."), hide = true)]
    root: PathBuf,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// All servers with all streams: memory, CPU, latency
    Streams,
    /// Node with timers per client, as far as it bears them
    Naive,
    /// An hour of heartbeats in some minutes
    Heartbeats,
    /// Requests to the app at one subscriber and at many
    Requests,
    /// Many topics with one subscriber each
    Topics,
    /// How costs grow with the number of streams
    Curves,
    /// What a broadcast does to everybody else
    Fairness,
}

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Smoke,
    Quick,
    Full,
}

/// A run, as it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) size: Size,
    pub(crate) streams: usize,
    pub(crate) runs: usize,
    pub(crate) parts: Vec<Part>,
    /// Empty: all that take part.
    pub(crate) peers: Vec<Peer>,
    pub(crate) payload: usize,
    pub(crate) write: bool,
    pub(crate) sidestream: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) cores: usize,
    /// Client processes: one may open 20,000 files on many machines.
    pub(crate) workers: usize,
}

impl Part {
    /// All parts, in the order in which they are run.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

impl ServeArgs {
    pub(crate) fn server(self) -> ServerArgs {
        ServerArgs { heartbeat: Duration::from_millis(self.heartbeat_ms), threads: self.threads }
    }
}

impl RunArgs {
    /// Fills in what was left out.
    pub(crate) fn options(self) -> std::io::Result<Options> {
        let Self { quick, smoke, streams, runs, only, peer, payload, write, sidestream, root } = self;
        let size = match (smoke, quick) {
            (true, _) => Size::Smoke,
            (_, true) => Size::Quick,
            _ => Size::Full,
        };
        let (default_streams, default_runs) = match size {
            Size::Smoke => (500, 1),
            Size::Quick => (2_000, 1),
            Size::Full => (15_000, 3),
        };
        let parts = match (only.is_empty(), size) {
            (false, _) => only,
            (true, Size::Smoke) => vec![Part::Streams],
            (true, _) => Part::all().to_vec(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let beside = std::env::current_exe()?.with_file_name("sidestream");
        Ok(Options {
            size,
            streams: streams.unwrap_or(default_streams) as usize,
            runs: runs.unwrap_or(default_runs) as usize,
            parts,
            peers: peer,
            payload: payload as usize,
            write,
            sidestream: sidestream.unwrap_or(beside),
            root,
            cores,
            workers: cores.clamp(2, 16),
        })
    }
}

impl Options {
    /// One of three, by the size of the run.
    pub(crate) fn pick<T>(&self, smoke: T, quick: T, full: T) -> T {
        match self.size {
            Size::Smoke => smoke,
            Size::Quick => quick,
            Size::Full => full,
        }
    }

    /// Whether a part is wanted.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}
