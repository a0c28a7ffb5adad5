//! The servers that are compared: how each is started, and how an event is given to it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Fault,
    app::App,
    args::Options,
    clock::nanos,
    payload::{self, Stamp},
    process::Process,
    server::LISTENING,
};

/// Where the streams are, with the number of the topic in the braces.
pub(crate) const PATH: &str = "/api/progress/{}";
/// The route that sidestream is measured with.
pub(crate) const ROUTE: &str = "path=/api/progress/{id},poll=/api/videos/{id}";
/// Debian's place for nginx's modules.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    Sidestream,
    Nchan,
    Node,
    /// Node with timers per client.
    Naive,
    Hyper,
    Floor,
}

/// How a server is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) options: &'a Options,
    /// Answers sidestream's polls, and those of the naive app.
    pub(crate) app: &'a App,
    pub(crate) heartbeat: Duration,
    /// More keys of sidestream's route, each with a comma before it.
    pub(crate) route: &'a str,
}

/// A running server, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    /// Removed at the end.
    _folder: Option<Folder>,
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Peer {
    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sidestream => "sidestream",
            Self::Nchan => "nginx + nchan",
            Self::Node => "Node, a Set",
            Self::Naive => "Node, timers per client",
            Self::Hyper => "hyper bodies",
            Self::Floor => "bare write loop",
        }
    }

    /// Starts it, and returns once it listens.
    pub(crate) fn start(self, setup: Setup<'_>) -> Result<Server, Fault> {
        let (process, addr, folder) = match self {
            Self::Sidestream => sidestream(setup)?,
            Self::Nchan => nchan(setup)?,
            Self::Node => node("hub.mjs", setup)?,
            Self::Naive => node("naive.mjs", setup)?,
            Self::Hyper => own("hyper", setup)?,
            Self::Floor => own("floor", setup)?,
        };
        Ok(Server { peer: self, addr, process, _folder: folder })
    }
}

impl Server {
    /// Gives topic 0 its next event: to the server itself, or to the app that it asks.
    pub(crate) fn publish(&self, setup: Setup<'_>, seq: u64) -> Result<(), Fault> {
        if matches!(self.peer, Peer::Sidestream | Peer::Naive) {
            setup.app.set(seq);
            return Ok(());
        }
        let mut socket = TcpStream::connect(self.addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut body = Vec::new();
        payload::write_json(&mut body, 0, Stamp { seq, at: nanos() }, setup.options.payload);
        let (addr, length) = (self.addr, body.len());
        let mut request = format!(
            "POST /publish/0 HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(&body);
        socket.write_all(&request)?;
        let mut answer = [0; 64];
        let read = socket.read(&mut answer)?;
        if answer[..read].starts_with(b"HTTP/1.1 20") {
            return Ok(());
        }
        Err(Fault::from(format!("an event was refused: {}", String::from_utf8_lossy(&answer[..read]))))
    }
}

type Started = (Process, SocketAddr, Option<Folder>);

fn sidestream(setup: Setup<'_>) -> Result<Started, Fault> {
    let mut command = Command::new(&setup.options.sidestream);
    let heartbeat = format!("{}ms", setup.heartbeat.as_millis());
    let upstream = format!("http://{}", setup.app.addr);
    let route = format!("{ROUTE}{}", setup.route);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--max-connections", "19000", "--max-topics", "20000", "--heartbeat-interval", &heartbeat]);
    command.args(["--upstream", &upstream, "--route", &route]);
    let process = Process::start(command)?;
    let addr = process.line(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "listening" && line["side"] == "public").then(|| line["addr"].as_str()?.parse().ok())?
    })?;
    Ok((process, addr, None))
}

fn nchan(setup: Setup<'_>) -> Result<Started, Fault> {
    let folder = Folder(std::env::temp_dir().join(format!("sidestream-bench-{}", std::process::id())));
    fs::create_dir_all(&folder.0)?;
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let conf = fs::read_to_string(peers(setup.options).join("nchan.conf"))?
        .replace("{module}", NCHAN)
        .replace("{workers}", &setup.options.cores.to_string())
        .replace("{folder}", &folder.0.to_string_lossy())
        .replace("{addr}", &addr.to_string())
        // Whole seconds are all that it takes.
        .replace("{heartbeat}", &setup.heartbeat.as_secs().max(1).to_string());
    let file = folder.0.join("nginx.conf");
    fs::write(&file, conf)?;
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder.0).arg("-c").arg(&file);
    let process = Process::start(command)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            let log = fs::read_to_string(folder.0.join("error.log")).unwrap_or_default();
            return Err(Fault::from(format!("nginx does not listen: {log}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((process, addr, Some(folder)))
}

fn node(script: &str, setup: Setup<'_>) -> Result<Started, Fault> {
    let mut command = Command::new("node");
    command.arg(peers(setup.options).join(script));
    command.env("NODE_ENV", "production");
    command.env("HEARTBEAT_MS", setup.heartbeat.as_millis().to_string());
    command.env("POLL_MS", "1000").env("STATUS_URL", format!("http://{}/api/videos/", setup.app.addr));
    listening(command)
}

fn own(name: &str, setup: Setup<'_>) -> Result<Started, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([name, "--heartbeat-ms", &setup.heartbeat.as_millis().to_string()]);
    command.args(["--threads", &setup.options.cores.to_string()]);
    listening(command)
}

fn listening(command: Command) -> Result<Started, Fault> {
    let process = Process::start(command)?;
    let addr = process.line(|line| line.strip_prefix(LISTENING)?.parse().ok())?;
    Ok((process, addr, None))
}

fn peers(options: &Options) -> PathBuf {
    options.root.join("benches/peers")
}

/// What a program calls its version, in one line.
pub(crate) fn version(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    // nginx says it on stderr.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}
