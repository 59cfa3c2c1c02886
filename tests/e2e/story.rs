//! The walkthrough of `cargo xtask demo`, in seconds: with boto3, and with the AWS CLI.

use super::server;

#[test]
fn with_boto3() {
    let server = server();
    assert_eq!(server.python(include_str!("story.py"), &[]).ok().trim(), "told");
}

#[test]
fn with_the_aws_cli() {
    let server = server();
    let zip = server.data_dir.with_file_name("artifact.zip");
    let script = "import sys; open(sys.argv[1], 'wb').write(artifact({'Dockerfile': 'FROM scratch'}))";
    server.python(script, &[&zip.display().to_string()]).ok();
    let url = server.variable("AWS_ENDPOINT_URL").to_owned();
    server.aws(&["s3", "mb", "s3://cli-bucket", "--endpoint-url", &url]).ok();
    server.aws(&["s3", "cp", &zip.display().to_string(), "s3://cli-bucket/artifact.zip"]).ok();
    let managed = server.aws(&["lambda-microvms", "list-managed-microvm-images"]).json();
    let base = managed["items"][0]["imageArn"].as_str().unwrap();
    let create = [
        "lambda-microvms",
        "create-microvm-image",
        "--name",
        "cli",
        "--code-artifact",
        r#"{"uri":"s3://cli-bucket/artifact.zip"}"#,
        "--base-image-arn",
        base,
        "--build-role-arn",
        "arn:aws:iam::000000000000:role/build",
    ];
    let image = server.aws(&create).json();
    assert_eq!(image["state"], "CREATING");
    let arn = image["imageArn"].as_str().unwrap();
    let got = server.aws(&["lambda-microvms", "get-microvm-image", "--image-identifier", arn]).json();
    assert_eq!(got["state"], "CREATED");
    let idle = r#"{"maxIdleDurationSeconds":300,"suspendedDurationSeconds":60,"autoResumeEnabled":true}"#;
    let run = ["lambda-microvms", "run-microvm", "--image-identifier", arn, "--idle-policy", idle];
    let microvm = server.aws(&run).json();
    assert_eq!(microvm["state"], "PENDING");
    let id = microvm["microvmId"].as_str().unwrap();
    let got = server.aws(&["lambda-microvms", "get-microvm", "--microvm-identifier", id]).json();
    assert_eq!(got["state"], "RUNNING");
    server.aws(&["lambda-microvms", "terminate-microvm", "--microvm-identifier", id]).ok();
}
