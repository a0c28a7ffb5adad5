//! Caddy, reloaded through its admin side.

use std::{ffi::OsString, path::PathBuf};

use super::proxy::{DRAIN_SECONDS, Kind, Place, READ_TIMEOUT_SECONDS, Recipe, Reload, filled_in, write};
use crate::harness::reserve_port;

/// Writes the configuration and says how it is used.
pub(super) fn recipe(program: PathBuf, place: &Place<'_>) -> Recipe {
    let (reservation, admin) = reserve_port();
    // Without the name of a host Caddy serves plain HTTP, on all addresses if not told otherwise.
    let site = format!(":{} {{\n    bind 127.0.0.1\n    log", place.listen.port());
    // Caddy waits for ever by default, so the timeout that the tests need has to be put in.
    let upstream = format!(
        "reverse_proxy {} {{\n        transport http {{\n            read_timeout {READ_TIMEOUT_SECONDS}s\n        }}\n    }}",
        place.upstream
    );
    let values = [(":80 {", 1, site.as_str()), ("reverse_proxy 127.0.0.1:8080", 1, &upstream)];
    let global = format!("{{\n    admin {admin}\n    grace_period {DRAIN_SECONDS}s\n}}\n");
    let config = write(place.dir, "Caddyfile", &(global + &filled_in(Kind::Caddy, &values)));
    let with_config = |command: &str| -> Vec<OsString> {
        vec![command.into(), "--config".into(), config.clone().into(), "--adapter".into(), "caddyfile".into()]
    };
    let mut reload = with_config("reload");
    // The file is the same, which Caddy would take for nothing to do.
    reload.extend(["--address".into(), admin.to_string().into(), "--force".into()]);
    Recipe { program, args: with_config("run"), reload: Reload::Command(reload), reserved: Some(reservation) }
}
