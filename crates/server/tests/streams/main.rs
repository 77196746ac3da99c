//! Streams of a real server with a real log, from an event to the client, by each transport.

mod client;
mod figures;
mod socket_io;
mod sse;
mod websocket;
