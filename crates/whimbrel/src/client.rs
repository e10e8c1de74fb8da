//! `whimbrel pub`, `sub` and `rr`: clients for the command line, with the options of mosquitto_pub, _sub and _rr.

mod format;
