//! How the app is started: by way of ourselves.
//!
//! Some things can only be done in the new process itself, between its birth and the app's first instruction: ask the
//! kernel for a SIGTERM when we die, and take back the limit of open files that we raised for ourselves. In Rust code that
//! runs there is `unsafe`, since next to nothing is allowed between `fork` and `exec`. So the new process first runs our
//! own program, which does both like any program and then becomes the app. It takes a few milliseconds.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::{AppCommand, End};
use crate::systemd;

/// Leads to the program that runs, also when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";

/// The name by which our program knows that it is only to become the app. Nobody calls it so by chance.
const NAME: &str = "sidestream: starting the app";

/// The word for no limit.
const UNLIMITED: &str = "unlimited";

/// What shells end with for a command that is not there, and for one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Starts the app, time and again.
#[derive(Clone, Debug)]
pub struct Launcher {
    command: AppCommand,
    /// What the app may open; `None` is no limit.
    open_files: Option<u64>,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ThroughOurselves,
    /// Where there is no `/proc`, or we are somebody else: a test.
    Direct,
}

// === impl Launcher ===

impl Launcher {
    /// To be made before we raise our own limit of open files, which the app is not to inherit.
    pub fn new(command: AppCommand) -> Self {
        let way = if Path::new(OURSELVES).exists() { Way::ThroughOurselves } else { Way::Direct };
        Self { command, open_files: getrlimit(Resource::Nofile).current, way }
    }

    /// Without the detour.
    #[cfg(test)]
    pub(super) fn direct(command: AppCommand) -> Self {
        Self { way: Way::Direct, ..Self::new(command) }
    }

    /// What is started; its arguments may hold secrets, and are not told.
    pub fn program(&self) -> &OsStr {
        &self.command.program
    }

    /// Starts the app with its output in pipes. The kernel takes the death of the thread that calls this for ours.
    pub(super) fn spawn(&self, has_own_group: bool) -> io::Result<Child> {
        let AppCommand { program, args } = &self.command;
        let mut command = match self.way {
            Way::ThroughOurselves => {
                let mut command = Command::new(OURSELVES);
                let limit = self.open_files.map_or(UNLIMITED.to_owned(), |limit| limit.to_string());
                command.arg0(NAME).arg(std::process::id().to_string()).arg(limit).arg(program);
                command
            }
            Way::Direct => Command::new(program),
        };
        for name in systemd::VARIABLES {
            command.env_remove(name);
        }
        command.args(args).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if has_own_group {
            command.process_group(0);
        }
        command.spawn()
    }
}

/// Becomes the app if that is all that this process is for; comes back with a status if that fails. To be called first in
/// `main`.
pub fn become_app() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next()? != NAME {
        return None;
    }
    let parent = args.next()?;
    let open_files = args.next()?;
    let command = AppCommand { program: args.next()?, args: args.collect() };
    restore(&open_files);
    // The order matters: who looks first may miss a death in between.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    let is_orphan = rustix::process::getppid().is_none_or(|now| parent != OsStr::new(&now.as_raw_pid().to_string()));
    if is_orphan {
        return Some(ExitCode::FAILURE);
    }
    let error = Command::new(&command.program).args(&command.args).exec();
    eprintln!("error: {}", sentence(&command, &error));
    Some(end_of(&error).status().into())
}

/// Takes back what we raised. Errors leave the app more than it would have had, which hardly anybody notices.
fn restore(open_files: &OsString) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = open_files.to_str().and_then(|limit| limit.parse().ok());
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

fn sentence(command: &AppCommand, error: &io::Error) -> String {
    let program = command.program.display();
    match error.kind() {
        io::ErrorKind::NotFound if command.program.to_string_lossy().contains('/') => {
            format!("-- {program}: there is no such file, or what its first line names is missing")
        }
        io::ErrorKind::NotFound => {
            format!("-- {program}: there is no such command in PATH; give its path, or install it")
        }
        io::ErrorKind::PermissionDenied => {
            format!("-- {program}: it can't be executed; `chmod +x` it, or name what runs it, as in -- node {program}")
        }
        _ => format!("-- {program}: it can't be executed ({error})"),
    }
}

/// What a command ends with that can't be started.
pub(super) fn end_of(error: &io::Error) -> End {
    End::Exited(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

impl End {
    /// The command can't be run, and nothing will change that.
    pub(super) fn is_of_no_command(self) -> bool {
        matches!(self, Self::Exited(NOT_FOUND | NOT_EXECUTABLE))
    }
}
