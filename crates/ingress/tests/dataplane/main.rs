//! The whole data plane in one process: real TLS clients, a fake control plane, applications on loopback.
#![allow(clippy::unwrap_used)]

mod access;
mod answers;
mod apps;
mod bodies;
mod browsers;
mod fuzz;
mod harness;
mod heads;
mod kept;
mod lifecycle;
mod outside;
mod secured;
mod sessions;
mod shares;
mod websockets;
