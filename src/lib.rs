//! sidestream: a reverse-proxy sidecar for Server-Sent Events in front of one web app.
//!
//! The modules stand in the order in which a request meets them:
//!
//! ```text
//!  main ─ cli ─ config ─ route ─ check      the command line becomes a configuration that can't be wrong
//!  app ─ listen ─ systemd                   open the sockets, run, drain
//!  server ─ accept ─ files ─ wire           a connection, what its bytes tell, and how many there may be
//!  router                                   a stream, or something to forward?
//!  ├─ forward ─ upstream ─ guard            everything that is no stream of ours goes to the app as it came; what
//!  │                                        turns out to be a stream there is kept alive
//!  └─ stream ─ connections ─ scope          a permit, whose it is, admission, the body
//!       ├─ takeover ─ shard                 the socket, out of hyper's hands into a slab of streams, one per core
//!       └─ subscription ─ hub ─ topic       one topic for all who watch the same thing
//!            └─ source ─ poll | subscribe   one request, or one stream, at the app for all of them
//!  child ─ app_errors ─ app_log             the app itself, where we start it or read its log
//! ```
//!
//! Beside them stand the pure modules (`event`, `sse_decode`, `json`, `status`, `template`, `backoff`, `grant`); what the
//! operator sees, from what is counted to where it is shown (`metrics`, `shortlist`, `survey`, `stats`, `app_view`, `advice`,
//! `admin`); whether all this works (`canary`, `health`, `readiness`); `log`, `shutdown`, and the `demo`.

pub mod cli;
pub mod config;
pub mod route;

pub mod check;

pub mod app;

pub mod listen;
pub mod systemd;

pub mod server;

pub mod accept;
pub mod files;
pub mod wire;

pub mod router;

pub mod forward;

pub mod upstream;

pub mod guard;

pub mod stream;

pub mod takeover;

pub mod shard;

pub mod tcp;

pub mod pulse;

pub mod connections;
pub mod grant;
pub mod refusal;
pub mod scope;
pub mod subscription;

pub mod hub;

pub mod topic;

pub mod source;

pub mod event;
pub mod json;
pub mod sse_decode;
pub mod status;

pub mod backoff;
pub mod template;

pub mod child;

pub mod app_errors;
pub mod app_log;

pub mod metrics;

pub mod shortlist;
pub mod survey;

pub mod stats;

pub mod app_view;

pub mod advice;

pub mod admin;

pub mod canary;
pub mod health;
pub mod readiness;

pub mod log;
pub mod shutdown;

pub mod demo;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
