//! Streams of a real server with a real log: SSE and WebSocket, from an event to the client.

mod client;
mod sse;
mod websocket;
