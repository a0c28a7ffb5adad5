pub mod demo;
pub mod metrics;
