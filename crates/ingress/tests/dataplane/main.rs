//! The whole data plane in one process: real TLS clients, a fake control plane, applications on loopback.
#![allow(clippy::unwrap_used)]

mod answers;
mod apps;
mod bodies;
mod fuzz;
mod harness;
mod heads;
mod lifecycle;
mod outside;
mod sessions;
mod websockets;
