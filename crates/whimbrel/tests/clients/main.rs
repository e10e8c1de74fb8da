//! `whimbrel pub`, `sub` and `rr` as a shell and its user see them.
#![cfg(unix)]

mod endings;
mod peers;
mod publishing;
mod requests;
mod subscribing;
mod support;
mod transports;
