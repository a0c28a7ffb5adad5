//! One real proxy as a child process, started from a file of `deploy/proxies` on a port of its own.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use super::{apache, caddy, haproxy, nginx};
use crate::harness::{eventually, node::repository_file, reserve_port};

/// What the proxies' read timeouts are set to, in seconds. Short, because the tests wait for three of them, and long
/// against what a loaded machine makes of a heartbeat.
pub(super) const READ_TIMEOUT_SECONDS: u32 = 3;

/// How long a process that was replaced by a reload may keep its streams, in seconds, where the proxy has a setting for
/// it: then the test sees the cut, which a user without this setting sees much later.
pub(super) const DRAIN_SECONDS: u32 = 1;

/// How long a proxy may take to end itself and its workers.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which file of `deploy/proxies` is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    NginxGzip,
    NginxHttp11,
    NginxInner,
    NginxGap,
    Haproxy,
    /// The same file without its `option http-no-delay`.
    HaproxyDelaying,
    Caddy,
    Apache,
}

/// A running proxy; it and its workers end when it goes.
#[derive(Debug)]
pub(super) struct Proxy {
    kind: Kind,
    addr: SocketAddr,
    child: Child,
    recipe: Recipe,
    dir: TempDir,
    /// Held for their drop alone: bound and never listening, they keep the ports from being given to anybody else.
    _reservations: [Option<TcpSocket>; 2],
}

/// How a proxy is started and reloaded.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) reload: Reload,
    /// A second port that the proxy takes, held as the first one is.
    pub(super) reserved: Option<TcpSocket>,
}

/// A proxy's own way to read its configuration again.
#[derive(Debug)]
pub(super) enum Reload {
    /// The program once more, with these arguments; it tells the running one.
    Command(Vec<OsString>),
    Signal(Signal),
}

/// Where a configuration is written to, and what goes into it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) dir: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) upstream: SocketAddr,
}

// === impl Kind ===

impl Kind {
    /// The file of the repository that users copy.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Nginx => "deploy/proxies/nginx.conf",
            Self::NginxGzip => "deploy/proxies/nginx-gzip.conf",
            Self::NginxHttp11 => "deploy/proxies/nginx-http11.conf",
            Self::NginxInner => "deploy/proxies/nginx-inner.conf",
            Self::NginxGap => "deploy/proxies/nginx-gap.conf",
            Self::Haproxy | Self::HaproxyDelaying => "deploy/proxies/haproxy.cfg",
            Self::Caddy => "deploy/proxies/Caddyfile",
            Self::Apache => "deploy/proxies/apache.conf",
        }
    }

    /// Whether a reload ends the streams of the process that it replaces, after [`DRAIN_SECONDS`] here. Apache has no
    /// such limit, its old process lives as long as its last stream; Caddy's grace period only bounds its own waiting.
    pub(super) fn cuts_at_reload(self) -> bool {
        !matches!(self, Self::Apache | Self::Caddy)
    }

    /// The Debian package, which is also the name of its program.
    fn package(self) -> &'static str {
        match self {
            Self::Nginx | Self::NginxGzip | Self::NginxHttp11 | Self::NginxInner | Self::NginxGap => "nginx",
            Self::Haproxy | Self::HaproxyDelaying => "haproxy",
            Self::Caddy => "caddy",
            Self::Apache => "apache2",
        }
    }

    /// The program; a proxy that is not there is a failure, never a skipped test.
    fn program(self) -> PathBuf {
        let name = self.package();
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers live in /usr/sbin, which the PATH of ordinary users leaves out.
        let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        places
            .find_map(|place| Some(place.join(name)).filter(|program| program.is_file()))
            .unwrap_or_else(|| panic!("{name} is not installed: `apt-get install {name}` (tests/run does it)"))
    }

    /// The version that the program says it has.
    pub(super) fn version(self) -> String {
        let argument = if self == Self::Caddy { "version" } else { "-v" };
        let output = Command::new(self.program()).arg(argument).output().expect("the program runs");
        // nginx says it on stderr, the others on stdout.
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let words = text.split([' ', '/', '\n', '-', 'v']);
        let version =
            words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        version.unwrap_or_else(|| panic!("no version in {text:?}")).to_owned()
    }

    fn recipe(self, place: &Place<'_>) -> Recipe {
        let program = self.program();
        match self.package() {
            "nginx" => nginx::recipe(self, program, place),
            "haproxy" => haproxy::recipe(self, program, place),
            "caddy" => caddy::recipe(program, place),
            _ => apache::recipe(program, place),
        }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts in the foreground and waits until it accepts connections.
    pub(super) async fn start(kind: Kind, upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Started by root, nginx and Apache work as www-data, who must get in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        let (reservation, addr) = reserve_port();
        let mut recipe = kind.recipe(&Place { dir: dir.path(), listen: addr, upstream });
        let output = fs::File::create(dir.path().join("output.log")).expect("the directory is ours");
        let child = Command::new(&recipe.program)
            .args(&recipe.args)
            .envs(home(dir.path()))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            // A group of its own, so that no worker outlives the test.
            .process_group(0)
            .spawn()
            .expect("the proxy's program starts");
        let reservations = [Some(reservation), recipe.reserved.take()];
        let proxy = Self { kind, addr, child, recipe, dir, _reservations: reservations };
        proxy.until_it_accepts().await;
        proxy
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Reloads the configuration and waits until a new process has it.
    pub(super) async fn reload(&self) {
        let before = self.workers();
        match &self.recipe.reload {
            Reload::Signal(signal) => {
                kill_process(Pid::from_child(&self.child), *signal).expect("the proxy runs");
            }
            Reload::Command(args) => {
                let mut command = Command::new(&self.recipe.program);
                command.args(args).envs(home(self.dir.path())).stdin(Stdio::null());
                let output = tokio::task::spawn_blocking(move || command.output());
                let output = output.await.expect("the waiting thread lives").expect("the proxy's program starts");
                assert!(output.status.success(), "the reload failed: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        // Caddy is one process; its reload command returns when the new configuration serves.
        if self.kind != Kind::Caddy {
            eventually("a worker with the new configuration", async || {
                (!self.workers().is_subset(&before)).then_some(())
            })
            .await;
        }
    }

    /// Every log of the proxy, for a failure.
    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["output.log", "error.log", "access.log"] {
            if let Ok(log) = fs::read_to_string(self.dir.path().join(name)) {
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(40)..].join("\n");
                text.push_str(&format!("--- {} of {:?}, its end ---\n{tail}\n", name, self.kind));
            }
        }
        text
    }

    async fn until_it_accepts(&self) {
        eventually("the proxy to listen", async || {
            assert!(!self.has_ended(), "{:?} ended before it listened:\n{}", self.kind, self.logs());
            TcpStream::connect(self.addr).await.ok()
        })
        .await;
    }

    /// Whether the child is over. It is not reaped, so that its id stays its own until the drop.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// The ids of the child processes.
    fn workers(&self) -> BTreeSet<u32> {
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| parent_of(*id) == Some(self.child.id())).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let id = Pid::from_child(&self.child);
        // Fails only when it has ended already.
        let _ = kill_process(id, Signal::TERM);
        // It ends its workers itself when it is given the time; whoever is left in its group after that is killed. The
        // child stays unreaped until then (NOWAIT): its id, which is the group's, can't be another's.
        let (over, is_over) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            // Nobody listens any more when it took too long.
            let _ = over.send(());
        });
        let _ = is_over.recv_timeout(PATIENCE);
        let _ = kill_process_group(id, Signal::KILL);
        let _ = self.child.wait();
    }
}

// === helpers ===

/// A file of `deploy/proxies` with the values of the test in place of the users' own. Each of the texts must stand in it
/// exactly as often as said: a file that was changed must not quietly be tried with a user's timeout.
pub(super) fn filled_in(kind: Kind, values: &[(&str, usize, &str)]) -> String {
    let file = kind.file();
    let mut text = fs::read_to_string(repository_file(file)).expect("the file is in the repository");
    for (users, times, ours) in values {
        assert_eq!(text.matches(users).count(), *times, "{file} has another number of {users:?}");
        text = text.replace(users, ours);
    }
    text
}

/// Writes one file of a configuration and says where.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("the directory is ours");
    path
}

/// Caddy keeps files in its user's home.
fn home(dir: &Path) -> [(&'static str, &Path); 3] {
    ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, dir))
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may hold anything; after it come the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
