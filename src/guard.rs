//! Keeps the event streams alive that the app serves by itself: those that no route names.

pub mod boundary;
