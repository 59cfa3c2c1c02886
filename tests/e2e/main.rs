//! Black-box tests of the built `hearth` with `--engine fake`: real sockets, the real AWS CLI and SDKs, and hearth's own
//! client. What a test needs and does not find makes it fail: `cargo xtask test` brings it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod appendix_b;
mod bad_input;
mod cli;
mod clock;
mod compat;
mod connectors;
mod endpoints;
mod events;
mod faults;
mod keys;
mod lifetimes;
mod logs;
mod quotas;
mod restart;
mod scenario;
mod secrets;
mod story;
mod under_load;

use e2e::Server;

fn server() -> Server {
    Server::start().unwrap_or_else(|error| panic!("{error:#}"))
}

/// An image of the example, made by `hearth build`.
fn with_image() -> Server {
    let server = server();
    build(&server, "hello", &[]).ok();
    server
}

fn build(server: &Server, name: &str, more: &[&str]) -> e2e::Said {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello").display().to_string();
    let hooks = ["--hooks", "ready,run,suspend,resume", "--hooks-port", "9000"];
    server.hearth(&[&["build", &example, "--name", name], &hooks[..], more].concat())
}

/// A running microVM of it; its id.
fn run(server: &Server, more: &[&str]) -> String {
    let microvm = server.hearth(&[&["run", "hello", "--json"], more].concat()).json();
    microvm["microvmId"].as_str().unwrap().to_owned()
}

fn state(server: &Server, id: &str) -> String {
    let all = server.hearth(&["ls", "--all", "--json"]).json();
    let found = all.as_array().unwrap().iter().find(|microvm| microvm["microvmId"] == id);
    found.unwrap_or_else(|| panic!("{id} is not listed"))["state"].as_str().unwrap().to_owned()
}

/// How many requests it has served, this one among them.
fn served(server: &Server, id: &str) -> u64 {
    server.hearth(&["curl", "--fail", id]).json()["requests_served"].as_u64().unwrap()
}
