//! Apache: a site of `deploy/proxies` inside the part of Debian's `apache2.conf` that matters here.

use std::path::PathBuf;

use super::proxy::{Kind, Place, READ_TIMEOUT_SECONDS, Recipe, Reload, filled_in, write};

/// Where Debian keeps the modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// What Debian loads by default as far as it touches a proxied answer, and the three that the site asks for.
const LOADED: [&str; 8] =
    ["mpm_event", "authz_core", "filter", "deflate", "reqtimeout", "proxy", "proxy_http", "headers"];

/// Writes the configuration and says how it is used.
pub(super) fn recipe(program: PathBuf, place: &Place<'_>) -> Recipe {
    let host = format!("<VirtualHost *:{}>", place.listen.port());
    let upstream = place.upstream.to_string();
    let timeout = format!("ProxyTimeout {READ_TIMEOUT_SECONDS}");
    let values =
        [("<VirtualHost *:80>", 1, host.as_str()), ("127.0.0.1:8080", 2, &upstream), ("ProxyTimeout 60", 1, &timeout)];
    let site = write(place.dir, "site.conf", &filled_in(Kind::Apache, &values));
    let config = write(place.dir, "apache2.conf", &main_config(place, &site.display().to_string()));
    let args: Vec<_> = vec!["-d".into(), place.dir.into(), "-f".into(), config.into()];
    // What apachectl does for "graceful".
    let reload = args.iter().cloned().chain(["-k".into(), "graceful".into()]).collect();
    let args = args.into_iter().chain(["-DFOREGROUND".into()]).collect();
    Recipe { program, args, reload: Reload::Command(reload), reserved: None }
}

fn main_config(place: &Place<'_>, site: &str) -> String {
    let (dir, listen) = (place.dir.display(), place.listen);
    let modules: String =
        LOADED.iter().map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).collect();
    format!(
        "{modules}ServerName localhost
DefaultRuntimeDir {dir}
PidFile {dir}/apache2.pid
Timeout 300
ErrorLog {dir}/error.log
LogLevel info
LogFormat \"%h %t \\\"%r\\\" %>s %O\" common
CustomLog {dir}/access.log common
<IfModule unixd_module>
    User www-data
    Group www-data
</IfModule>
AddOutputFilterByType DEFLATE text/html text/plain text/xml text/css text/javascript
StartServers 1
MinSpareThreads 25
MaxSpareThreads 75
Listen {listen}
Include {site}
"
    )
}
