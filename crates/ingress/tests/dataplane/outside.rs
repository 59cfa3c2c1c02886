//! A client that is not ours: curl. Skipped where it is not installed.

use std::process::Command;

use crate::{
    apps,
    harness::{World, host},
};

/// Status, protocol version and body; `None` without curl.
async fn curl(world: &World, path: &str, arguments: &[&str]) -> Option<(String, String)> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code} %{http_version}"])
        .arg("--cacert")
        .arg(&world.ca)
        .args(arguments)
        .arg(format!("https://{}:{}{path}", host("a"), world.address.port()));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Ok(output) = output else { return None };
    assert!(output.status.success(), "{path} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, outcome) = text.rsplit_once('\n').unwrap();
    Some((outcome.to_owned(), body.to_owned()))
}

#[tokio::test]
async fn curl_with_both_protocols() {
    let world = World::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    let bytes: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    let expected = apps::digest(apps::pattern(bytes.len())).await;
    let token = format!("X-aws-proxy-auth: {}", world.token("a"));
    let upload = format!("@{}", file.display());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let Some((outcome, body)) = curl(&world, "/head", &[flag, "-H", &token]).await else { return };
        assert_eq!(outcome, format!("200 {version}"));
        assert!(body.contains(&format!("host: {}:{}\n", host("a"), world.address.port())), "{body}");
        let (outcome, body) = curl(&world, "/head", &[flag]).await.unwrap();
        assert_eq!((outcome, &body[..]), (format!("403 {version}"), "Request missing authentication"));
        let arguments = [flag, "-H", &token, "-H", "Expect: 100-continue", "--data-binary", &upload];
        let (outcome, body) = curl(&world, "/digest", &arguments).await.unwrap();
        assert_eq!((outcome, body), (format!("200 {version}"), expected.clone()));
        let (outcome, body) = curl(&world, "/early", &arguments).await.unwrap();
        assert_eq!((outcome, &body[..]), (format!("413 {version}"), "too large"));
        // Refused before the body is looked at.
        let arguments = [flag, "--data-binary", &upload];
        let (outcome, body) = curl(&world, "/digest", &arguments).await.unwrap();
        assert_eq!((outcome, &body[..]), (format!("403 {version}"), "Request missing authentication"));
    }
}
