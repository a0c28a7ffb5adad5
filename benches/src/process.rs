//! Processes being measured: starting and ending them, and what the kernel knows about their memory and time.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Fault;

/// How long a server may take to start, and to leave when told to.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(3);

/// A server, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

/// Bytes of a process and its children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident; what two processes share counts twice.
    pub(crate) rss: f64,
    /// Resident; what two processes share counts once.
    pub(crate) pss: f64,
}

/// CPU time of one thread.
#[derive(Clone, Debug)]
pub(crate) struct ThreadTime {
    pub(crate) name: String,
    pub(crate) nanos: u64,
}

impl Process {
    /// Starts a program whose lines on stdout or stderr are of interest.
    pub(crate) fn start(mut command: Command) -> Result<Self, Fault> {
        let name = command.get_program().to_string_lossy().into_owned();
        // Some end with their stdin, so it is held open.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{name} can't be started: {error}"))?;
        let (sender, lines) = sync_channel(256);
        let outputs: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|out| Box::new(out) as _)];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            // Ends with the process's output. Lines that nobody reads any more are dropped, so that it is never held up.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.try_send(line);
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// The first line in which `find` sees something.
    pub(crate) fn line<T>(&self, mut find: impl FnMut(&str) -> Option<T>) -> Result<T, Fault> {
        let deadline = Instant::now() + START;
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match find(&line) {
                    Some(found) => return Ok(found),
                    None => said.push(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(Fault::from(format!("the server has not said where it listens: {}", said.join("\n"))));
                }
            }
        }
    }

    /// Its process id and those of its children.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = pids.get(at).copied() {
            for thread in list(&format!("/proc/{pid}/task")) {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        pids
    }

    /// What it holds in memory.
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for pid in self.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            memory.rss += kib(&text, "Rss:") * 1024.0;
            memory.pss += kib(&text, "Pss:") * 1024.0;
        }
        memory
    }

    /// The CPU time it has used, in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        self.threads().iter().map(|thread| thread.nanos).sum()
    }

    /// The same, for each thread.
    pub(crate) fn threads(&self) -> Vec<ThreadTime> {
        self.pids().into_iter().flat_map(threads).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pids = self.pids();
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // Asked first: a master that is killed leaves its workers behind. None has a stream any more.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The CPU time of a process's threads. A thread that has ended takes its time along; none of the servers here ends any.
pub(crate) fn threads(pid: u32) -> Vec<ThreadTime> {
    let threads = list(&format!("/proc/{pid}/task")).into_iter().map(|thread| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}"));
        let nanos = match read("schedstat") {
            Ok(text) => text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0),
            Err(_) => ticks(&read("stat").unwrap_or_default()) * 10_000_000,
        };
        ThreadTime { name: read("comm").unwrap_or_default().trim().to_owned(), nanos }
    });
    threads.collect()
}

fn list(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A field of `/proc` in KiB.
pub(crate) fn kib(text: &str, field: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// User and system time of a `stat` line, in ticks of 10 ms; the name in brackets may hold spaces.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}
