//! Step 6: two more microVMs of the same image.

use anyhow::Result;

use super::{Scene, launch, requests};

/// Plays it. The two are terminated with the rest, in step 7.
pub fn play(scene: &mut Scene) -> Result<()> {
    let first = scene.vm()?;
    let first_token = requests::token(scene, &first, 8080)?;
    let started = requests::get(scene, &first, &first_token, "/about")?.json()["started_at"].clone();
    let mut others = Vec::new();
    for _ in 0..2 {
        let vm = launch::run(scene)?;
        scene.wait_for(&vm.id, "RUNNING")?;
        let token = requests::token(scene, &vm, 8080)?;
        others.push((vm, token));
    }
    let mut counts = Vec::new();
    for (vm, token) in [&others[0], &others[1], &others[0]] {
        counts.push(requests::get(scene, vm, token, "/")?.served().unwrap_or_default());
    }
    counts.push(requests::get(scene, &first, &first_token, "/")?.served().unwrap_or_default());
    scene.report.expect("separate memory: each counts for itself", counts == [1, 1, 2, 9], format!("{counts:?}"));

    let mut starts = Vec::new();
    for (vm, token) in &others {
        starts.push(requests::get(scene, vm, token, "/about")?.json()["started_at"].clone());
    }
    let same = starts.iter().all(|each| *each == started) && started.is_number();
    scene.report.expect("all continue one snapshot: the application started once", same, format!("{starts:?}"));
    files(scene, &others)
}

/// What one writes, the other does not see.
fn files(scene: &mut Scene, others: &[(super::scene::Vm, String)]) -> Result<()> {
    let (writer, reader) = (&others[0], &others[1]);
    let auth = [("X-aws-proxy-auth", writer.1.as_str())];
    let put = requests::curl(scene, &writer.0, "/file", &auth, &["--request", "PUT", "--data-binary", "mine"])?;
    let own = requests::get(scene, &writer.0, &writer.1, "/file")?;
    let foreign = requests::get(scene, &reader.0, &reader.1, "/file")?;
    let separate = put.status == 200 && own.body == "mine" && foreign.status == 404;
    let detail = format!("written {}, read {:?}, the other's {}", put.status, own.body, foreign.status);
    scene.report.expect("separate files", separate, detail);
    Ok(())
}
