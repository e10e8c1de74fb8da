//! The protocol's tables and rules as tests, one behaviour each, at simulated time.

mod authentication;
mod availability;
mod closing;
mod delivery;
mod flow_control;
mod handshake;
mod identifiers;
mod keep_alive;
mod pair;
mod prepared;
mod qos1;
mod qos2;
mod requests;
mod resume;
mod scripted_server;
mod scripted_server_connection;
mod scripted_server_messages;
mod sent_aliases;
mod sizes;
mod support;
mod topics;
