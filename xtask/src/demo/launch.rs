//! Step 3: a microVM.

use anyhow::{Context, Result};

use super::{Scene, scene::Vm};

/// The idle policy of the story.
const IDLE_POLICY: &str = r#"{"maxIdleDurationSeconds":300,"suspendedDurationSeconds":60,"autoResumeEnabled":true}"#;

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let vm = run(scene)?;
    let host = vm.endpoint.contains('.') && !vm.endpoint.contains('/');
    scene.report.expect("the microVM has an endpoint host", host, &vm.endpoint);
    scene.wait_for(&vm.id, "RUNNING")?;
    scene.report.expect("it becomes RUNNING", true, &vm.id);
    scene.vm = Some(vm);
    Ok(())
}

/// `aws lambda-microvms run-microvm`; expects `PENDING`.
pub fn run(scene: &mut Scene) -> Result<Vm> {
    let image = scene.image.clone();
    let started = scene.microvms(&["run-microvm", "--image-identifier", &image, "--idle-policy", IDLE_POLICY])?;
    let text =
        |name: &str| started[name].as_str().map(str::to_owned).with_context(|| format!("run-microvm gave no {name}"));
    let vm = Vm { id: text("microvmId")?, endpoint: text("endpoint")? };
    scene.report.expect("run-microvm answers PENDING", started["state"] == "PENDING", &vm.id);
    Ok(vm)
}

/// `aws lambda-microvms terminate-microvm`, and waits until it is `TERMINATED`.
pub fn terminate(scene: &Scene, vm: &Vm) -> Result<()> {
    scene.microvms(&["terminate-microvm", "--microvm-identifier", &vm.id])?;
    scene.wait_for(&vm.id, "TERMINATED").map(drop)
}
