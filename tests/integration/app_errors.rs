//! The app as a child and its log: what it prints, how it ends, who starts it again, and what is counted of it.

mod child;
mod crash;
mod frameworks;
mod log;
mod signals;
