//! HAProxy in master-worker mode, as Debian's service starts it.

use std::path::PathBuf;

use rustix::process::Signal;

use super::proxy::{DRAIN_SECONDS, Kind, Place, READ_TIMEOUT_SECONDS, Recipe, Reload, filled_in, write};

/// Writes the configuration and says how it is used.
pub(super) fn recipe(kind: Kind, program: PathBuf, place: &Place<'_>) -> Recipe {
    let bind = format!("bind {}", place.listen);
    let upstream = place.upstream.to_string();
    let (client, server) =
        (format!("timeout client {READ_TIMEOUT_SECONDS}s"), format!("timeout server {READ_TIMEOUT_SECONDS}s"));
    let no_delay = "    option http-no-delay\n";
    let values = [
        ("bind :80", 1, bind.as_str()),
        ("127.0.0.1:8080", 1, &upstream),
        ("timeout client 50s", 1, &client),
        ("timeout server 50s", 1, &server),
        (no_delay, 1, if kind == Kind::HaproxyDelaying { "" } else { no_delay }),
    ];
    let global =
        format!("global\n    log stdout format raw daemon\n    maxconn 200\n    hard-stop-after {DRAIN_SECONDS}s\n");
    let global = write(place.dir, "global.cfg", &global);
    let site = write(place.dir, "haproxy.cfg", &filled_in(kind, &values));
    let args = vec!["-W".into(), "-f".into(), global.into(), "-f".into(), site.into()];
    Recipe { program, args, reload: Reload::Signal(Signal::USR2), reserved: None }
}
