//! Packets as bytes: the table of vectors, and what its packets say.

mod packets;
mod table;
mod vectors;
