//! What a stream costs, measured: sidestream and its peers, one after the other, with the same clients, the same payload
//! and the same machine. `benches/README.md` says what is measured and how.

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Role};

mod app;
mod args;
mod book;
mod client;
mod clock;
mod conduct;
mod kernel;
mod part;
mod payload;
mod peer;
mod process;
mod report;
mod server;

/// Whatever ends a run before its time.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.role {
        Some(Role::Clients) => client::worker::run().map_err(Fault::from),
        Some(Role::Floor(args)) => server::floor::run(args.server()),
        Some(Role::Hyper(args)) => server::hyper::run(args.server()),
        None => cli.run.options().map_err(Fault::from).and_then(|options| conduct::run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("benches/run: {fault}");
            ExitCode::FAILURE
        }
    }
}
