//! The `sidestream` program: reads the command line, sets up logging, and hands over to the library.

use std::{io::Write, process::ExitCode};

use sidestream::{
    admin, app, check, child,
    cli::{self, AdminListen, Cli, Command, HealthcheckArgs, ListenOn, RunArgs},
    config::{Config, ConfigError},
    demo, files, log,
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
            let text = check::describe(&config_or_exit(&args), files::limit(), Shards::per_core());
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Some(Command::Demo(args)) => {
            log::init(&args.log);
            block_on(demo::run(args))
        }
        Some(Command::Healthcheck(args)) => healthcheck(&args),
        None => {
            let config = config_or_exit(&run);
            log::init(&run.log);
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            match Sockets::from_env() {
                Ok(sockets) => block_on(serve(config, sockets)),
                Err(error) => fail(&error.to_string()),
            }
        }
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
fn block_on(program: impl Future<Output = Result<app::Exit, String>>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("can't start: {error}")),
    };
    let end = runtime.block_on(program);
    // Nobody waits for what can't be stopped: a name that is being resolved, a log on a file system that hangs.
    runtime.shutdown_background();
    match end {
        Ok(app::Exit::Drained | app::Exit::Cut) => ExitCode::SUCCESS,
        Ok(app::Exit::Aborted) => ExitCode::FAILURE,
        Ok(app::Exit::App(status)) => ExitCode::from(status),
        Err(sentence) => fail(&sentence),
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
        Err(sentence) => fail(&sentence),
    }
}

fn config_or_exit(args: &RunArgs) -> Config {
    let is_unfinished = cli::lacks_app(std::env::args_os());
    let config = if is_unfinished { Err(ConfigError::NoCommand) } else { Config::new(args) };
    config.unwrap_or_else(|error| clap::Error::from(error).exit())
}

fn fail(sentence: &str) -> ExitCode {
    eprintln!("error: {sentence}");
    ExitCode::FAILURE
}
