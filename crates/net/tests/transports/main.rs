//! Every transport against servers inside the test.

mod certificates;
mod deadline;
mod server_certificates;
mod servers;
mod tls;
mod tls_faults;
mod tls_options;
#[cfg(unix)]
mod unix;
mod websocket;
mod websocket_faults;
mod websocket_frames;
