//! The real binary as a child process: started with flags, read through its log, its sockets and its admin side.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::watch;

use super::{app::App, client::Request, eventually, metrics::Samples, within};

/// Flags for a child that is not started yet.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    args: Vec<String>,
    envs: Vec<(String, String)>,
    log: String,
    log_format: &'static str,
    /// A subcommand, which comes before the flags.
    command: Option<&'static str>,
    open_files: Option<u32>,
    /// What comes behind `--`.
    app: Vec<String>,
}

/// A running child; killed when it goes.
#[derive(Debug)]
pub(crate) struct Sidestream {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    log: Log,
}

/// What a child that ran to its end left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The lines of the child's stderr, filled by a thread that ends with the pipe.
#[derive(Clone, Debug)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    changes: watch::Receiver<usize>,
}

/// The binary under test, with no environment twin of a flag from outside.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidestream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIDESTREAM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Files that the program keeps back for itself on this machine, as the README says.
pub(crate) fn files_for_itself() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    48 + 2 * cores.saturating_sub(8)
}

/// The same, allowed so many open files, which it can't raise.
pub(crate) fn binary_within(open_files: u32) -> Command {
    let binary = binary();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" \"$@\"")]).arg(binary.get_program());
    for (name, _) in binary.get_envs() {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the binary to its end; for subcommands and refusals.
pub(crate) async fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Finished {
    let child = binary().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    finish(child.expect("the binary starts")).await
}

/// Waits for a child with piped output.
pub(crate) async fn finish(child: Child) -> Finished {
    let id = Pid::from_child(&child);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = match tokio::time::timeout(super::DEADLINE, output).await {
        Ok(output) => output.expect("the waiting thread lives").expect("the child can be waited for"),
        Err(_) => {
            kill_process(id, Signal::KILL).expect("the child is ours");
            panic!("the program should have ended by itself");
        }
    };
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

// === impl Builder ===

impl Builder {
    /// Adds one `--route`.
    pub(crate) fn route(self, spec: &str) -> Self {
        self.flag("--route", spec)
    }

    /// Adds a flag with its value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds a flag that stands alone.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.args.push(name.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The level of `--log`, `info` if not said.
    pub(crate) fn log(mut self, level: &str) -> Self {
        self.log = level.to_owned();
        self
    }

    /// Lines for people instead of JSON.
    pub(crate) fn text_log(mut self) -> Self {
        self.log_format = "text";
        self
    }

    /// Allows the child so many open files.
    pub(crate) fn open_files(mut self, files: u32) -> Self {
        self.open_files = Some(files);
        self
    }

    /// An app for the child to start, with its arguments.
    pub(crate) fn app(mut self, command: &[&str]) -> Self {
        self.app = std::iter::once("--").chain(command.iter().copied()).map(str::to_owned).collect();
        self
    }

    /// Starts the child and waits until both sides listen.
    pub(crate) async fn start(self) -> Sidestream {
        let Self { args, envs, log, log_format, command, open_files, app } = self;
        let mut child = open_files
            .map_or_else(binary, binary_within)
            .args(command)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log-format",
                log_format,
                "--log",
                &log,
            ])
            .args(args)
            .args(app)
            .envs(envs)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = Log::of(child.stderr.take().expect("stderr is piped"));
        let public = log.address("public").await;
        let admin = log.address("admin").await;
        let (Some(public), Some(admin)) = (public, admin) else {
            // The log ended, so the child is leaving by itself.
            let status = child.wait().expect("the child can be waited for");
            panic!("the program ended ({status}) before it listened:\n{}", log.text());
        };
        Sidestream { child, public, admin, log }
    }
}

// === impl Sidestream ===

impl Sidestream {
    /// A child in front of `app`.
    pub(crate) fn before(app: &App) -> Builder {
        Self::before_addr(app.addr())
    }

    /// The demo, which brings its own app.
    pub(crate) fn demo() -> Builder {
        Builder {
            args: Vec::new(),
            envs: Vec::new(),
            log: "info".to_owned(),
            log_format: "json",
            command: Some("demo"),
            open_files: None,
            app: Vec::new(),
        }
    }

    /// A child in front of whatever listens at `addr`.
    pub(crate) fn before_addr(addr: SocketAddr) -> Builder {
        let args = vec!["--upstream".to_owned(), format!("http://{addr}")];
        Builder {
            args,
            envs: Vec::new(),
            log: "info".to_owned(),
            log_format: "json",
            command: None,
            open_files: None,
            app: Vec::new(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.public
    }

    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// A GET without an `Accept`.
    pub(crate) fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    /// A GET as an `EventSource` sends it.
    pub(crate) fn sse(&self, target: &str) -> Request {
        self.get(target).header("Accept", "text/event-stream")
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.public, method, target)
    }

    /// A GET on the admin side.
    pub(crate) fn admin(&self, target: &str) -> Request {
        Request::new(self.admin, "GET", target)
    }

    /// One scrape of `/metrics`.
    pub(crate) async fn metrics(&self) -> Samples {
        let answer = self.admin("/metrics").header("Connection", "close").fetch().await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        Samples::parse(&answer.text())
    }

    /// One value of one scrape, summed over the series with these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.get(name, labels)
    }

    /// Scrapes until `is_true`.
    pub(crate) async fn until(&self, what: &str, is_true: impl Fn(&Samples) -> bool) {
        eventually(what, async || is_true(&self.metrics().await).then_some(())).await;
    }

    /// Scrapes until a value is what is expected; a miss says what it was instead.
    pub(crate) async fn until_metric(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        let what = format!("{name} {labels:?} = {expected}");
        self.until(&what, |samples| (samples.get(name, labels) - expected).abs() < 1e-9).await;
    }

    /// Waits until nothing is left of clients and topics.
    pub(crate) async fn until_quiet(&self) {
        self.until("every gauge to return to zero", |samples| {
            ["connections_active", "connections_stale", "topics"].iter().all(|name| samples.total(name) == 0.0)
        })
        .await;
    }

    /// `/api/stats` of the admin side.
    pub(crate) async fn stats(&self) -> Value {
        let answer = self.admin("/api/stats").header("Connection", "close").fetch().await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).expect("the stats are JSON")
    }

    /// Every line of the log so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log.
    pub(crate) async fn log_line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let found = within(what, self.log.find(|line| is_it(line).then(|| line.to_owned()))).await;
        found.unwrap_or_else(|| panic!("the program ended without {what}:\n{}", self.log.text()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child is ours");
    }

    /// Waits for the child's own end.
    pub(crate) async fn wait_exit(&mut self) -> Option<i32> {
        self.wait_status().await.code()
    }

    /// A value of `/proc/<pid>/status` in KiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the child runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a value in KiB")
    }

    /// The child's process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Files that the child has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the child runs").count()
    }

    /// CPU time the child used so far, in clock ticks (10 ms).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the child runs");
        let after_name = stat.rsplit_once(')').expect("a stat line has a name").1;
        // utime and stime are fields 14 and 15; the text after the name begins with field 3.
        let fields: Vec<_> = after_name.split_whitespace().collect();
        fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
    }

    async fn wait_status(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the child to end", async || child.try_wait().expect("the child can be waited for")).await
    }
}

impl Drop for Sidestream {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = self.log.text();
        if std::thread::panicking() {
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(80)..];
            eprintln!("--- the end of the program's log ---\n{}", tail.join("\n"));
        } else {
            assert!(!text.contains("panicked at"), "the program panicked:\n{text}");
        }
    }
}

// === impl Log ===

impl Log {
    /// Starts the reading thread; it ends when the child closes its stderr, at the latest by its death.
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (count, changes) = watch::channel(0);
        let written = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                written.lock().expect("nobody panics under this lock").push(line);
                count.send_modify(|count| *count += 1);
            }
        });
        Self { lines, changes }
    }

    fn text(&self) -> String {
        self.lines.lock().expect("nobody panics under this lock").join("\n")
    }

    /// The first line that `pick` takes; `None` when the log ends without it.
    async fn find<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut from = 0;
        loop {
            let is_over = self.changes.has_changed().is_err();
            {
                let lines = self.lines.lock().expect("nobody panics under this lock");
                if let Some(found) = lines[from..].iter().find_map(|line| pick(line)) {
                    return Some(found);
                }
                from = lines.len();
            }
            if is_over {
                return None;
            }
            // An error says that the log is over; the lines are looked at once more then.
            let _ = self.changes.changed().await;
        }
    }

    /// The address of one side, from `{…,"message":"listening","side":…,"addr":…}` or `listening side=… addr=…`.
    async fn address(&mut self, side: &str) -> Option<SocketAddr> {
        let text = format!("listening side=\"{side}\" addr=");
        let found = self.find(|line| {
            if let Some((_, addr)) = line.split_once(&text) {
                return addr.split(' ').next()?.parse().ok();
            }
            let line: Value = serde_json::from_str(line).ok()?;
            let is_it = line["message"] == "listening" && line["side"] == side;
            is_it.then(|| line["addr"].as_str()?.parse().ok()).flatten()
        });
        within("the program to listen", found).await
    }
}
