//! The lines of the specification's checklist that need no real guest; `cargo xtask appendix-b` checks all on real microVMs.

use std::path::Path;

use serde_json::Value;

use super::server;

#[test]
fn the_lines_about_the_api() {
    let said = server().python_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("appendix_b/run.py"), &["api"]).ok();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<&Value> = lines.iter().filter(|line| line["verdict"] == "FAIL").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let met = lines.iter().filter(|line| line["verdict"] == "ok").count();
    assert!(met >= 15, "{met} of the 16 lines are met: {said}");
}
