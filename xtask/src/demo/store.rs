//! Step 1: a bucket and the artifact, in hearth's S3-compatible store, both styles of addressing.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::Scene;
use crate::{process, workspace};

/// The bucket of the story.
pub const BUCKET: &str = "hello-artifacts";
/// The artifact's key in it.
pub const KEY: &str = "artifact.zip";
/// `bucket.localhost` is an address of this host (RFC 6761), but few resolvers know: the script tells Python so.
const VIRTUAL_HOST: &str = include_str!("virtual_host.py");

/// Plays it.
pub fn play(scene: &mut Scene) -> Result<()> {
    let zip = scene.work.join(KEY);
    let example = workspace::root().join("examples/hello");
    let mut command = scene.venv.python();
    command.current_dir(&example).args(["-m", "zipfile", "-c"]).arg(&zip);
    command.args(["Dockerfile", "requirements.txt", "server.py"]);
    process::capture(&mut command, b"", Duration::from_secs(60))?.success("zip")?;
    let bytes = std::fs::read(&zip)?.len();

    let url = scene.variable("AWS_ENDPOINT_URL").to_owned();
    scene.aws(&["s3", "mb", &format!("s3://{BUCKET}"), "--endpoint-url", &url])?;
    let (path, uri) = (zip.display().to_string(), format!("s3://{BUCKET}/{KEY}"));
    scene.aws(&["s3", "cp", &path, &uri, "--endpoint-url", &url])?;
    let head = scene.aws(&["s3api", "head-object", "--bucket", BUCKET, "--key", KEY])?;
    let same = head.contains(&format!("\"ContentLength\": {bytes}"));
    scene.report.expect("aws s3 mb and cp keep the artifact", same, format!("{bytes} bytes"));

    let mut python: Command = scene.user_command(&scene.venv.python_path());
    python.args(["-c", VIRTUAL_HOST, BUCKET, KEY, &path]);
    let output = process::capture(&mut python, b"", Duration::from_secs(60))?;
    let said = if output.status.success() { &output.stdout } else { &output.stderr };
    let said = said.trim().lines().last().unwrap_or_default().to_owned();
    scene.report.expect("S3 by path and by virtual host", output.status.success(), said);
    Ok(())
}
