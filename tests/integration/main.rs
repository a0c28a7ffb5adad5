//! The program from outside: the real binary, real sockets, the bytes on the wire.
//!
//! One binary for all of it, because each further one would be linked anew. The modules follow the contract: what a
//! client of a stream sees ([`poll`], [`subscribe`], [`heartbeat`]), who may see it ([`scopes`], [`isolation`]), what is
//! passed on ([`forward`]), what the operator sees ([`metrics`], [`dashboard`], [`log`]), how it starts, drains and survives
//! its app ([`cli`], [`life`]) and what its own death costs ([`crash`]), who counts as dead ([`stale`]), what it bounds ([`limits`],
//! [`storm`]) and when it is well ([`health`]), what the dashboard is told ([`stats`]) and what is
//! recommended ([`advice`]), the traps others fell into ([`traps`]), a real Node app behind it
//! ([`node`]), and whether the docs say what is there ([`docs`]).
//!
//! What operators copy is tried as well: what Prometheus and Grafana are told ([`prometheus`]), and the image, the compose
//! file and the manifests ([`deploy`]), and how it does as a service ([`systemd`]).

mod advice;
mod app_errors;
mod apps;
mod bad_peers;
mod cli;
mod clients;
mod crash;
mod dashboard;
mod deploy;
mod docs;
mod forward;
mod guard;
mod harness;
mod health;
mod heartbeat;
mod isolation;
mod life;
mod limits;
mod log;
mod metrics;
mod node;
mod origins;
mod poll;
mod prometheus;
mod proxies;
mod scopes;
mod smuggling;
mod stale;
mod stats;
mod storm;
mod subscribe;
mod systemd;
mod takeover;
mod traps;
