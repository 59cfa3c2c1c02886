//! The builder of `--engine fake`: the artifact is checked as the real one does, and nothing is built.

use async_trait::async_trait;

use crate::{
    BuildLog, BuildRequest, Builder, Built, ROOT_DISK, archive::Artifact, archive::Limits, disk, error::BuildError,
};

/// Checks that the artifact is a zip with a `Dockerfile` at its root, and lays down an empty root disk. Needs no tools,
/// parses no Dockerfile, and gives the same result every time.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeBuilder;

#[async_trait]
impl Builder for FakeBuilder {
    async fn build(&self, request: &BuildRequest, log: &dyn BuildLog) -> Result<Built, BuildError> {
        let result = check(request, log);
        match std::fs::remove_dir_all(&request.work_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(BuildError::io("remove", &request.work_dir, &error))
            }
            _ => result,
        }
    }
}

fn check(request: &BuildRequest, log: &dyn BuildLog) -> Result<Built, BuildError> {
    let _artifact = Artifact::open(&request.artifact, &Limits::default())?;
    log.line("artifact: a zip with a Dockerfile at its root");
    log.line("fake engine: the Dockerfile is not built and the root disk is empty");
    crash::point("dockerfile: artifact checked");
    disk::sparse(&request.image_dir.join(ROOT_DISK), request.disk_mib)?;
    let mut env = vec![("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned())];
    env.retain(|(name, _)| request.env.iter().all(|(other, _)| other != name));
    env.extend(request.env.iter().cloned());
    let container = wire::Container {
        argv: vec!["fake".to_owned()],
        env,
        workdir: "/".to_owned(),
        user: String::new(),
        all_capabilities: request.additional_capabilities_all,
        hostname: String::new(),
    };
    Ok(Built { container, exposed_ports: vec![8080], code_bytes: 0 })
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Mutex};

    use super::*;
    use crate::FailureCode;

    struct Lines(Mutex<Vec<String>>);

    impl BuildLog for Lines {
        fn line(&self, text: &str) {
            self.0.lock().expect("not poisoned").push(text.to_owned());
        }
    }

    async fn build(name: &str) -> (tempfile::TempDir, Result<Built, BuildError>) {
        let dir = tempfile::tempdir().expect("a directory");
        let artifact = dir.path().join("a.zip");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&artifact).expect("creates"));
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("starts");
        zip.write_all(b"FROM scratch").expect("writes");
        zip.finish().expect("a zip");
        let request = BuildRequest {
            artifact,
            work_dir: dir.path().join("work"),
            image_dir: dir.path().to_owned(),
            disk_mib: 64,
            env: vec![("A".into(), "secret".into())],
            additional_capabilities_all: true,
        };
        std::fs::create_dir(&request.work_dir).expect("creates");
        assert!(!format!("{request:?}").contains("secret"));
        let result = FakeBuilder.build(&request, &Lines(Mutex::default())).await;
        assert!(!request.work_dir.exists());
        (dir, result)
    }

    #[tokio::test]
    async fn a_good_artifact_gives_an_empty_disk() {
        let (dir, result) = build("Dockerfile").await;
        let built = result.expect("is fine");
        assert!(built.container.env.contains(&("A".to_owned(), "secret".to_owned())));
        assert!(built.container.all_capabilities && !format!("{built:?}").contains("secret"));
        assert_eq!(std::fs::metadata(dir.path().join(ROOT_DISK)).expect("exists").len(), 64 << 20);
    }

    #[tokio::test]
    async fn a_bad_one_fails_as_the_real_builder_would() {
        let (dir, result) = build("sub/Dockerfile").await;
        assert_eq!(result.expect_err("must fail").code, FailureCode::ArchiveDockerfileNotFound);
        assert!(!dir.path().join(ROOT_DISK).exists());
    }
}
