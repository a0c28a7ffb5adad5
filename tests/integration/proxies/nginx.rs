//! nginx: a site of `deploy/proxies` inside Debian's `nginx.conf`, as far as that matters here.

use std::path::PathBuf;

use super::proxy::{DRAIN_SECONDS, Kind, Place, READ_TIMEOUT_SECONDS, Recipe, Reload, filled_in, write};

/// Writes the configuration and says how it is used.
pub(super) fn recipe(kind: Kind, program: PathBuf, place: &Place<'_>) -> Recipe {
    let listen = format!("listen {};", place.listen);
    let upstream = place.upstream.to_string();
    let timeout = format!("proxy_read_timeout {READ_TIMEOUT_SECONDS}s;");
    let values = [
        ("listen 80;", 1, listen.as_str()),
        ("127.0.0.1:8080", 1, &upstream),
        ("proxy_read_timeout 60s;", 1, &timeout),
    ];
    let site = write(place.dir, "site.conf", &filled_in(kind, &values));
    let config = write(place.dir, "nginx.conf", &main_config(place, &site.display().to_string()));
    // Without -e it would want Debian's log, which only root may write.
    let args: Vec<_> = vec!["-e".into(), place.dir.join("error.log").into(), "-c".into(), config.into()];
    let reload = args.iter().cloned().chain(["-s".into(), "reload".into()]).collect();
    Recipe { program, args, reload: Reload::Command(reload), reserved: None }
}

/// `gzip`, `sendfile` and `tcp_nopush` are on in Debian's file; the paths are ours, and so is the bound of the drain.
fn main_config(place: &Place<'_>, site: &str) -> String {
    let dir = place.dir.display();
    format!(
        "daemon off;
worker_processes 1;
worker_shutdown_timeout {DRAIN_SECONDS}s;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{
    worker_connections 256;
}}
http {{
    sendfile on;
    tcp_nopush on;
    gzip on;
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    include {site};
}}
"
    )
}
