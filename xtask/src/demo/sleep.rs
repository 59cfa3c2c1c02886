//! Step 5: suspend, resume, wake by a request; and a server that is killed in the middle of it all.

use anyhow::Result;
use serde_json::Value;

use super::{Scene, requests, scene::Vm};

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let vm = scene.vm()?;
    let token = requests::token(scene, &vm, 8080)?;
    let before = identity(scene, &vm, &token)?;
    let running = scene.machines().len();
    scene.report.expect("a running microVM is a process of this host", running > 0, format!("{running} found"));

    suspend(scene, &vm)?;
    scene.microvms(&["resume-microvm", "--microvm-identifier", &vm.id])?;
    scene.wait_for(&vm.id, "RUNNING")?;
    expect_same(scene, &vm, &token, "after resume-microvm", &before, 6)?;

    scene.kill_server()?;
    scene.serve()?;
    let state = scene.microvms(&["get-microvm", "--microvm-identifier", &vm.id])?["state"].clone();
    scene.report.expect("a microVM outlives a killed server", state == "RUNNING", state.to_string());
    expect_same(scene, &vm, &token, "after kill -9 of the server", &before, 7)?;

    suspend(scene, &vm)?;
    scene.kill_server()?;
    scene.serve()?;
    expect_same(scene, &vm, &token, "woken by a request, the server killed meanwhile", &before, 8)?;
    scene.wait_for(&vm.id, "RUNNING")?;
    scene.report.expect("a request wakes it", true, "");
    Ok(())
}

/// `suspend-microvm`, and the VM's process must be gone.
fn suspend(scene: &mut Scene, vm: &Vm) -> Result<()> {
    scene.microvms(&["suspend-microvm", "--microvm-identifier", &vm.id])?;
    scene.wait_for(&vm.id, "SUSPENDED")?;
    let left: Vec<String> = scene.machines().iter().map(ToString::to_string).collect();
    scene.report.expect("suspended: no VM process is left", left.is_empty(), left.join(", "));
    Ok(())
}

/// What must not change: start time and process of the application.
fn identity(scene: &Scene, vm: &Vm, token: &str) -> Result<Value> {
    Ok(requests::get(scene, vm, token, "/about")?.json()["started_at"].clone())
}

fn expect_same(scene: &mut Scene, vm: &Vm, token: &str, when: &str, before: &Value, count: u64) -> Result<()> {
    let answer = requests::get(scene, vm, token, "/")?;
    let started = identity(scene, vm, token)?;
    let same = answer.served() == Some(count) && answer.json()["pid"] == 1 && started == *before && started.is_number();
    let detail = format!("{} {}, started at {started}, before {before}", answer.status, answer.body.trim());
    scene.report.expect(format!("{when}: the counter goes on, same pid, same start"), same, detail);
    Ok(())
}
