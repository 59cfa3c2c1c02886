//! Updates, versions and deletions of an image while others launch, use and end microVMs of it.

use e2e::Server;

use super::build;

#[test]
fn what_runs_keeps_its_version_and_nothing_dangles_after_deletions() {
    let mut server = Server::start().unwrap();
    build(&server, "busy", &[]).ok();
    server.python(include_str!("under_load.py"), &[]).ok();
    server.kill().unwrap();
    server.hearth(&["check"]).ok();
    let images = std::fs::read_dir(server.data_dir.join("images")).unwrap().count();
    let microvms = std::fs::read_dir(server.data_dir.join("microvms")).unwrap().count();
    assert_eq!((images, microvms), (0, 0), "directories are left");
}
