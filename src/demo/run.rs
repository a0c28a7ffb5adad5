//! The whole demo in one process: the app, and the sidecar before it.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{DemoApp, routes};
use crate::{
    app::{self, BindError, Bound, Exit},
    cli::DemoArgs,
    config::Config,
    listen::ListenError,
    metrics::RouteId,
    shutdown::Shutdown,
    systemd::Sockets,
};

/// Where the demo listens unless it is told otherwise; a free port when that one is taken.
const PUBLIC: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9180";
const FREE: &str = "127.0.0.1:0";

const LISTEN: &str = "--listen";

/// Runs the demo until a signal.
///
/// # Errors
/// A sentence, when an address can't be had.
pub async fn run(args: DemoArgs) -> Result<Exit, String> {
    let DemoArgs { listen, admin_listen, log: _ } = args;
    let shutdown = Shutdown::on_signals(false).map_err(|error| format!("can't listen for signals: {error}"))?;
    let demo = DemoApp::bind().await.map_err(|error| format!("can't start the demo's app: {error}"))?;
    let bound = bind(&demo, listen, admin_listen)?;
    let public = bound.public_addrs().next().expect("the demo has one public address");
    let admin = bound.admin_addr().expect("the demo has an admin side");
    let metrics = bound.metrics();
    let dashboard = format!("http://{admin}/");
    let demo = demo.with_dashboard(dashboard.clone());

    println!("sidestream demo: a small app, and the sidecar before it\n");
    println!("  the app's page   http://{public}/");
    println!("  the dashboard    {dashboard}\n");
    println!("Start some jobs, open the page in a few tabs, then press ctrl-c here to see the streams drained.");

    let app_stops = CancellationToken::new();
    let watched = Arc::new(move || u64::try_from(metrics.route(RouteId(0)).active()).unwrap_or_default());
    // Owned here: it ends when the sidecar has left.
    let app = tokio::spawn(demo.run(app_stops.clone(), watched));
    let exit = bound.run(shutdown).await;
    app_stops.cancel();
    app.await.map_err(|error| format!("the demo's app failed: {error}"))?;
    Ok(exit)
}

fn bind(demo: &DemoApp, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> Result<Bound, String> {
    let named =
        |addr: Option<SocketAddr>, default: &str| addr.map_or_else(|| default.to_owned(), |addr| addr.to_string());
    let (mut public, mut private) = (named(listen, PUBLIC), named(admin, ADMIN));
    loop {
        let config = config(demo, &public, &private)?;
        match app::bind(config, Sockets::default()) {
            Ok(bound) => return Ok(bound),
            // Only an address that nobody asked for may be replaced.
            Err(BindError::Listen(ListenError::Refused { flag, .. }))
                if flag == LISTEN && listen.is_none() && public != FREE =>
            {
                FREE.clone_into(&mut public);
            }
            Err(BindError::Listen(ListenError::Refused { flag, .. }))
                if flag != LISTEN && admin.is_none() && private != FREE =>
            {
                FREE.clone_into(&mut private);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn config(demo: &DemoApp, public: &str, private: &str) -> Result<Config, String> {
    let upstream = format!("http://{}", demo.addr());
    let flags = [LISTEN, public, "--admin-listen", private, "--upstream", &upstream, "--drain", "3s"];
    let routes = routes().into_iter().flat_map(|route| ["--route", route]);
    // The addresses may be the same, and variables in the environment stand for the other flags.
    Config::from_args(flags.into_iter().chain(routes)).map_err(|error| {
        let text = error.to_string();
        text.trim_start_matches("error: ").trim_end().to_owned()
    })
}
