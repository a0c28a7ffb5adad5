//! Under which conditions a run was made.

use std::{fs, path::Path};

use super::Section;
use crate::{args::Options, kernel, peer::version};

/// The conditions, as a list.
pub(crate) fn section(options: &Options) -> Section {
    let mut lines = vec![
        format!("{} cores, {}, {}", options.cores, cpu_model(), memory()),
        format!("Linux {}", kernel::setting("kernel/osrelease").unwrap_or_default()),
        format!("{} open files per process", open_files()),
        format!(
            "{} streams, {} run{}, {} bytes of JSON in an event",
            options.streams,
            options.runs,
            if options.runs == 1 { "" } else { "s" },
            options.payload
        ),
        versions(options).join(", "),
        format!(
            "clients and app on the same {} cores, {} client processes, loopback; load before the run {}",
            options.cores,
            options.workers,
            fs::read_to_string("/proc/loadavg").unwrap_or_default().split_whitespace().next().unwrap_or("unknown")
        ),
    ];
    let settings = [
        "net/ipv4/ip_local_port_range",
        "net/ipv4/tcp_mem",
        "net/ipv4/tcp_rmem",
        "net/ipv4/tcp_wmem",
        "net/core/somaxconn",
    ];
    let settings =
        settings.iter().filter_map(|name| Some(format!("`{}` {}", name.replace('/', "."), kernel::setting(name)?)));
    lines.push(settings.collect::<Vec<_>>().join(", "));
    if cfg!(debug_assertions) {
        lines.push("a debug build: the figures mean nothing, only that no delivery was lost".to_owned());
    }
    let objects: Vec<_> = kernel::objects().into_iter().map(|(name, size)| format!("`{name}` {size}")).collect();
    if !objects.is_empty() {
        lines.push(format!("kernel objects, in bytes: {}", objects.join(", ")));
    }
    let text = lines.into_iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n");
    Section { name: "conditions", title: "Conditions", text }
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split_once(':'));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    format!("{:.0} GiB of memory", crate::process::kib(&text, "MemTotal:") / 1024.0 / 1024.0)
}

fn open_files() -> String {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).maximum.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn versions(options: &Options) -> Vec<String> {
    let sidestream = options.sidestream.to_string_lossy();
    let nginx = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let nchan = version("dpkg-query", &["-W", "-f", "${Version}", "libnginx-mod-nchan"]);
    let versions = [
        version(&sidestream, &["--version"]),
        version(nginx, &["-v"]).map(|version| version.replace("nginx version: ", "")),
        nchan.map(|version| format!("libnginx-mod-nchan {version}")),
        version("node", &["--version"]).map(|version| format!("Node {version}")),
        version("rustc", &["--version"]),
    ];
    versions.into_iter().flatten().collect()
}
