//! Step 7: the end, and that nothing is left of it.

use anyhow::Result;

use super::{Scene, footprint, launch, requests, scene::Vm};

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let vm = scene.vm()?;
    let token = requests::token(scene, &vm, 8080)?;
    let listed = scene.microvms(&["list-microvms", "--image-identifier", &scene.image])?;
    let none = Vec::new();
    let items = listed["items"].as_array().unwrap_or(&none);
    let living =
        items.iter().filter(|item| item["state"] != "TERMINATED").filter_map(|item| item["microvmId"].as_str());
    let living: Vec<Vm> = living.map(|id| Vm { id: id.to_owned(), endpoint: String::new() }).collect();
    scene.report.expect("list-microvms shows the three", living.len() == 3, format!("{} live", living.len()));
    for each in &living {
        launch::terminate(scene, each)?;
    }
    let got = scene.microvms(&["get-microvm", "--microvm-identifier", &vm.id])?;
    let clean = got["state"] == "TERMINATED" && got["stateReason"] == "Success.";
    scene.report.expect("terminated by request: Success.", clean, got["stateReason"].to_string());

    let answer = requests::get(scene, &vm, &token, "/")?;
    let gone = answer.status == 502 && answer.proxy_error() == "MICROVM_CONNECT_FAILED";
    scene.report.expect("its endpoint answers 502", gone, format!("{} {}", answer.status, answer.proxy_error()));
    let left: Vec<String> = scene.machines().iter().map(ToString::to_string).collect();
    scene.report.expect("no VM process is left of the three", left.is_empty(), left.join(", "));
    let ids: Vec<&str> = living.iter().map(|each| each.id.trim_start_matches("microvm-")).collect();
    // Logs outlive what they tell of (spec 4.7).
    let logs = scene.data_dir.join("logs");
    let files = footprint::named(&scene.data_dir, &ids);
    let files: Vec<String> =
        files.iter().filter(|path| !path.starts_with(&logs)).map(|path| path.display().to_string()).collect();
    scene.report.expect("no file is left of the three", files.is_empty(), files.join(", "));
    Ok(())
}
