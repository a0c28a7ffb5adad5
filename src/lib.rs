//! sidestream: a reverse-proxy sidecar for Server-Sent Events.

pub mod check;
pub mod cli;
pub mod config;
pub mod event;
pub mod log;
pub mod metrics;
pub mod route;
pub mod status;
pub mod template;
