//! The host's wall clock is stepped under a running server: nothing is lost, what is due by the wall clock happens, and the
//! order of lists and logs stays.

use std::{fs, process::Command};

use e2e::Server;

/// A server, and clients with the same clock, which a file says how far to step.
#[test]
fn steps_of_the_wall_clock() {
    let scratch = tempfile::tempdir().unwrap();
    let [library, step] = ["clock.so", "step"].map(|name| scratch.path().join(name).display().to_string());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/clock.c");
    e2e::run(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", &library, source]))
        .unwrap()
        .ok();
    fs::write(&step, 0_i64.to_ne_bytes()).unwrap();
    let server = Server::start_in(&[("LD_PRELOAD", &library), ("HEARTH_TEST_STEP", &step)]).unwrap();
    assert_eq!(server.python(include_str!("clock.py"), &[&step]).ok().trim(), "all as it must be");
}
