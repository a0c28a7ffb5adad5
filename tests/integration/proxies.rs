//! The usual proxies in front, real ones from Debian's packages, with the files of `deploy/proxies`.
//!
//! For each: events arrive one by one, quiet streams outlive the proxy's read timeout by their heartbeats and are cut
//! without, and a reload of the proxy loses nothing for a client that resumes ([`stage`], [`reload`]). What was seen must be what
//! the table of `docs/proxies.md` says ([`matrix`]).

mod apache;
mod caddy;
mod gap;
mod haproxy;
mod matrix;
mod nginx;
mod own;
mod proxy;
mod reload;
mod stage;
mod tab;

use std::net::SocketAddr;

use self::{
    proxy::{Kind, Proxy},
    stage::Stage,
};

/// A stock nginx before `upstream`, whose read timeout is short: its address, and what ends it.
pub(crate) async fn nginx_before(upstream: SocketAddr) -> (SocketAddr, impl Drop) {
    let nginx = Proxy::start(Kind::Nginx, upstream).await;
    (nginx.addr(), nginx)
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Setup {
    name: &'static str,
    /// From the one before sidestream to the one before the clients.
    kinds: &'static [Kind],
}

const NGINX: Setup = Setup { name: "nginx", kinds: &[Kind::Nginx] };
const NGINX_GZIP: Setup = Setup { name: "nginx, `gzip on`", kinds: &[Kind::NginxGzip] };
const NGINX_HTTP11: Setup = Setup { name: "nginx, `proxy_http_version 1.1`", kinds: &[Kind::NginxHttp11] };
const NGINX_TWICE: Setup = Setup { name: "two nginx in a row", kinds: &[Kind::NginxInner, Kind::Nginx] };
const NGINX_TWICE_STOCK: Setup = Setup { name: "two nginx in a row, both stock", kinds: &[Kind::Nginx, Kind::Nginx] };
const HAPROXY: Setup = Setup { name: "HAProxy", kinds: &[Kind::Haproxy] };
const HAPROXY_DELAYING: Setup =
    Setup { name: "HAProxy without `option http-no-delay`", kinds: &[Kind::HaproxyDelaying] };
const CADDY: Setup = Setup { name: "Caddy", kinds: &[Kind::Caddy] };
const APACHE: Setup = Setup { name: "Apache", kinds: &[Kind::Apache] };

/// Every line, in the order of the docs.
const SETUPS: [Setup; 9] =
    [NGINX, NGINX_GZIP, NGINX_HTTP11, NGINX_TWICE, NGINX_TWICE_STOCK, HAPROXY, HAPROXY_DELAYING, CADDY, APACHE];

/// HTTP/1.0 to sidestream, buffers on: the configuration that everybody has.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_a_stock_nginx() {
    matrix::check(&NGINX, &Stage::play(NGINX.kinds).await);
}

/// Compressed streams are the ones that compression could hold back, so it must really have been on.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_an_nginx_that_compresses_them() {
    let findings = Stage::play(NGINX_GZIP.kinds).await;

    assert_eq!(findings.encoding.as_deref(), Some("gzip"));
    matrix::check(&NGINX_GZIP, &findings);
}

#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_an_nginx_with_kept_alive_connections() {
    matrix::check(&NGINX_HTTP11, &Stage::play(NGINX_HTTP11.kinds).await);
}

/// The outer one is a stock nginx; the inner one has the line that lets our header through.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_two_nginx_in_a_row() {
    matrix::check(&NGINX_TWICE, &Stage::play(NGINX_TWICE.kinds).await);
}

/// The control of the line: nginx keeps `X-Accel-Buffering` to itself.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn a_stock_nginx_behind_another_one_leaves_the_outer_one_buffering() {
    matrix::check_control(&NGINX_TWICE_STOCK, Stage::deliver(NGINX_TWICE_STOCK.kinds).await);
}

#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_haproxy() {
    matrix::check(&HAPROXY, &Stage::play(HAPROXY.kinds).await);
}

/// The control of `option http-no-delay`.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn haproxy_is_late_with_each_event_if_it_may_wait_for_more() {
    matrix::check_control(&HAPROXY_DELAYING, Stage::deliver(HAPROXY_DELAYING.kinds).await);
}

/// Caddy would compress `text/*`; it heeds the `no-transform` of our streams.
#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_caddy() {
    let findings = Stage::play(CADDY.kinds).await;

    assert_eq!(findings.encoding, None);
    matrix::check(&CADDY, &findings);
}

#[tokio::test]
#[ignore = "needs nginx, haproxy, caddy and apache2; tests/run runs it"]
async fn streams_live_behind_apache() {
    matrix::check(&APACHE, &Stage::play(APACHE.kinds).await);
}
