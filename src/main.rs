//! The `sidestream` program: reads the command line, sets up logging, and hands over to the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sidestream::check;
use sidestream::cli::{Cli, Command};
use sidestream::config::Config;
use sidestream::log;

fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    match command {
        Some(Command::Check(args)) => {
            let text = check::describe(&config_or_exit(&args));
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Some(Command::Demo(args)) => {
            log::init(&args.log);
            not_built_in("demo")
        }
        Some(Command::Healthcheck(_)) => not_built_in("healthcheck"),
        None => {
            let config = config_or_exit(&run);
            log::init(&run.log);
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            not_built_in("run")
        }
    }
}

fn config_or_exit(args: &sidestream::cli::RunArgs) -> Config {
    Config::new(args).unwrap_or_else(|error| clap::Error::from(error).exit())
}

fn not_built_in(what: &str) -> ExitCode {
    eprintln!("error: '{what}' is not built into this binary");
    ExitCode::FAILURE
}
