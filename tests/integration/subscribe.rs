//! Subscribe routes: one stream of the app, shared by the tabs of its user.

mod delivery;
mod parsing;
mod reconnect;
mod replay;
