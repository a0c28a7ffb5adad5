//! The `sidestream` program: reads the command line, sets up logging, and hands over to the library.

use std::{io::Write, process::ExitCode};

use sidestream::{
    admin, app, check, child,
    cli::{self, AdminListen, Cli, Command, HealthcheckArgs, ListenOn, RunArgs},
    config::{self, Config, ConfigError},
    demo, files,
    log::{self, LogArgs, LogFormat},
    shard::Shards,
    shutdown::Shutdown,
    systemd::Sockets,
};

/// Topics are many small things that live long, beside requests' that don't: with the system's allocator the ones end up in
/// the holes of the others, and a third of a topic's memory is such holes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(failure) = child::launch::become_app() {
        return failure;
    }
    let Cli { command, run } = Cli::read();
    match command {
        Some(Command::Check(args)) => {
            let config = config(&args).unwrap_or_else(|sentence| config::refusal(&sentence).exit());
            let text = check::describe(&config, files::limit(), Shards::per_core());
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Some(Command::Demo(args)) => {
            let log = args.log.clone();
            log::init(&log);
            block_on(demo::run(args), &log)
        }
        Some(Command::Healthcheck(args)) => healthcheck(&args),
        None => {
            log::init(&run.log);
            match config(&run) {
                Ok(config) => start(config, &run.log),
                Err(sentence) => refuse(&sentence, &run.log),
            }
        }
    }
}

fn start(config: Config, log: &LogArgs) -> ExitCode {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match Sockets::from_env() {
        Ok(sockets) => block_on(serve(config, sockets), log),
        Err(error) => fail(&error.to_string(), log),
    }
}

async fn serve(config: Config, sockets: Sockets) -> Result<app::Exit, String> {
    let shutdown =
        Shutdown::on_signals(config.command.is_some()).map_err(|error| format!("can't listen for signals: {error}"))?;
    let bound = app::bind(config, sockets).map_err(|error| error.to_string())?;
    Ok(bound.run(shutdown).await)
}

/// Runs to the end: 0 after a drain, also one that had to cut what was left; 1 when it could not start or a second signal
/// ended it.
fn block_on(program: impl Future<Output = Result<app::Exit, String>>, log: &LogArgs) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("there is no runtime: {error}"), log),
    };
    let end = runtime.block_on(program);
    // Nobody waits for what can't be stopped: a name that is being resolved, a log on a file system that hangs.
    runtime.shutdown_background();
    match end {
        Ok(app::Exit::Drained | app::Exit::Cut) => ExitCode::SUCCESS,
        Ok(app::Exit::Aborted) => ExitCode::FAILURE,
        Ok(app::Exit::App(status)) => ExitCode::from(status),
        Err(sentence) => fail(&sentence, log),
    }
}

fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let asked = match args.admin_listen {
        AdminListen::Off => {
            Err("--admin-listen off: there is nobody to ask; give the address of the sidecar's admin side".to_owned())
        }
        AdminListen::On(ListenOn::Systemd) => {
            Err("--admin-listen systemd: only systemd knows where that is; give the address".to_owned())
        }
        AdminListen::On(ListenOn::At(addr)) => admin::healthcheck(addr),
    };
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn config(args: &RunArgs) -> Result<Config, String> {
    let is_unfinished = cli::lacks_app(std::env::args_os());
    let config = if is_unfinished { Err(ConfigError::NoCommand) } else { Config::new(args) };
    config.map_err(|error| args.twins.explain(&error.to_string()))
}

/// A configuration that makes no sense: the same status as an argument that makes none.
fn refuse(sentence: &str, log: &LogArgs) -> ExitCode {
    match log.log_format {
        LogFormat::Text => config::refusal(sentence).exit(),
        LogFormat::Json => log::fatal(log, sentence),
    }
    ExitCode::from(2)
}

fn fail(sentence: &str, log: &LogArgs) -> ExitCode {
    log::fatal(log, sentence);
    ExitCode::FAILURE
}
