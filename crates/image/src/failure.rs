//! Reading what buildah says when it fails.

use std::path::Path;

use crate::error::{BuildError, FailureCode};

/// What buildah's words look like when a registry could not be spoken to at all, in contrast to one that refused.
const UNREACHABLE: [&str; 8] = [
    "pinging container registry",
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "TLS handshake timeout",
    "tls: failed to verify certificate",
];

/// The image whose registry could not be reached, when that is why the build failed.
pub(crate) fn unreachable_image(tail: &[String]) -> Option<&str> {
    let error = error_line(tail)?;
    let (_, rest) = error.split_once("docker://")?;
    let name = &rest[..rest.find(": ")?];
    let why = &rest[name.len()..];
    UNREACHABLE.iter().any(|words| why.contains(words)).then_some(name)
}

/// True when these lines say that a registry could not be reached.
pub(crate) fn says_unreachable(tail: &[String]) -> bool {
    error_line(tail).is_some_and(|error| UNREACHABLE.iter().any(|words| error.contains(words)))
}

/// The name after the last `FROM` that buildah announced: how the Dockerfile writes the image that failed.
pub(crate) fn last_from(tail: &[String]) -> Option<&str> {
    tail.iter().rev().find_map(|line| {
        let (_, step) = line.split_once("STEP ")?;
        let (_, from) = step.split_once(": FROM ")?;
        from.split_whitespace().find(|word| !word.starts_with("--"))
    })
}

/// Why `buildah build` failed; its layers lie on the file system of `cache_dir`.
pub(crate) fn of_build(tail: &[String], cache_dir: &Path) -> BuildError {
    if tail.iter().any(|line| says_disk_full(line)) {
        return BuildError::disk_full(cache_dir);
    }
    let Some(error) = error_line(tail) else {
        if !tail.iter().any(|line| line.contains("STEP ")) {
            return of_platform("run buildah", tail, cache_dir);
        }
        return BuildError::container("the Dockerfile could not be built; see the log above");
    };
    if let Some(image) = unreachable_image(tail) {
        return BuildError::container(format!(
            "FROM {image}: its registry cannot be reached and no alias is configured for it ({error})"
        ));
    }
    if error.contains("docker://") {
        return BuildError::container(format!("a base image cannot be pulled: {error}"));
    }
    // buildah dumps its parser's state after an unknown instruction.
    let error = error.split(" &imagebuilder.").next().unwrap_or(error);
    BuildError::container(error.replace(": while running runtime: exit status", ": exit status"))
}

/// Why a step of hearth's own failed in the sandbox.
pub(crate) fn of_platform(what: &str, tail: &[String], cache_dir: &Path) -> BuildError {
    if tail.iter().any(|line| says_disk_full(line)) {
        return BuildError::disk_full(cache_dir);
    }
    let words = error_line(tail).or(tail.last().map(String::as_str)).unwrap_or("it said nothing");
    BuildError::platform(format!("cannot {what}: {words}"))
}

/// Why `mke2fs -d` failed: the root disk, or the host's file system under it, may be too small.
pub(crate) fn of_disk(
    tail: &[String],
    cache_dir: &Path,
    disk: &Path,
    disk_mib: u64,
    code_bytes: Option<u64>,
) -> BuildError {
    let full = ["Could not allocate block in ext2", "Could not allocate inode in ext2", "inode table is full"];
    if tail.iter().any(|line| full.iter().any(|words| line.contains(words))) {
        let need = code_bytes.map_or(String::new(), |bytes| format!(" of {} MiB", bytes.div_ceil(1 << 20)));
        return BuildError::new(
            FailureCode::DiskStorageFull,
            format!("the container's file system{need} does not fit on the root disk of {disk_mib} MiB"),
        );
    }
    let host = tail.iter().any(|line| line.starts_with("mke2fs:") || line.contains("ext2fs"));
    of_platform("write the root disk", tail, if host { disk } else { cache_dir })
}

fn error_line(tail: &[String]) -> Option<&str> {
    // What a RUN step printed last, without an end of line, may stand before buildah's own words.
    const STARTS: [&str; 2] = ["Error: building at STEP ", "Error: creating build container: "];
    let own = |line: &'_ String| STARTS.iter().find_map(|start| line.find(start)).map(|at| at + "Error: ".len());
    tail.iter().rev().find_map(|line| line.strip_prefix("Error: ").or_else(|| line.get(own(line)?..)))
}

fn says_disk_full(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("no space left on device") || line.contains("disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const PING: &str = "STEP 1/3: FROM public.ecr.aws/lambda/microvms:al2023-minimal
Trying to pull public.ecr.aws/lambda/microvms:al2023-minimal...
Error: creating build container: initializing source docker://public.ecr.aws/lambda/microvms:al2023-minimal: pinging \
container registry public.ecr.aws: Get \"https://public.ecr.aws/v2/\": dial tcp: lookup public.ecr.aws: no such host";

    #[test]
    fn an_unreachable_registry_is_told_from_one_that_refuses() {
        let tail = lines(PING);
        assert_eq!(unreachable_image(&tail), Some("public.ecr.aws/lambda/microvms:al2023-minimal"));
        assert_eq!(last_from(&tail), Some("public.ecr.aws/lambda/microvms:al2023-minimal"));
        let refused = lines(
            "Error: creating build container: initializing source docker://a.b/c:1: reading manifest 1 in a.b/c: denied",
        );
        assert_eq!(unreachable_image(&refused), None);
        let error = of_build(&refused, Path::new("/"));
        assert_eq!(error.code, FailureCode::ContainerBuildFailed);
        assert!(error.message.starts_with("a base image cannot be pulled: "), "{error}");
        assert!(
            of_build(&tail, Path::new("/")).message.starts_with("FROM public.ecr.aws/lambda/microvms:al2023-minimal: ")
        );
    }

    #[test]
    fn from_is_read_as_buildah_prints_it() {
        let tail = lines("[2/2] STEP 1/4: FROM --platform=linux/amd64 docker.io/library/x:1 AS final\nError: y");
        assert_eq!(last_from(&tail), Some("docker.io/library/x:1"));
        assert_eq!(last_from(&lines("nothing")), None);
    }

    #[test]
    fn a_failing_step_is_named() {
        let tail = lines("boom\nError: building at STEP \"RUN false\": while running runtime: exit status 1");
        let error = of_build(&tail, Path::new("/"));
        assert_eq!(error.code, FailureCode::ContainerBuildFailed);
        assert_eq!(error.message, "building at STEP \"RUN false\": exit status 1");
        let glued = lines("no end of lineError: building at STEP \"RUN x\": while running runtime: exit status 2");
        assert_eq!(of_build(&glued, Path::new("/")).message, "building at STEP \"RUN x\": exit status 2");
        let unknown =
            lines("Error: building at STEP \"RUNN \": Unknown instruction: \"RUNN\" &imagebuilder.Step{Env:[]}");
        assert!(of_build(&unknown, Path::new("/")).message.ends_with("Unknown instruction: \"RUNN\""));
    }

    #[test]
    fn a_buildah_that_does_not_start_is_hearth_s_fault() {
        let error = of_build(&lines("level=error msg=\"unknown userid 0\""), Path::new("/"));
        assert_eq!(error.code, FailureCode::InternalPlatformError);
        assert!(error.message.contains("unknown userid 0"), "{error}");
        assert_eq!(of_build(&lines("STEP 1/1: X\nKilled"), Path::new("/")).code, FailureCode::ContainerBuildFailed);
    }

    #[test]
    fn a_full_disk_says_which() {
        let tail =
            lines("cp: error writing '/x': No space left on device\nError: building at STEP \"RUN cp\": exit status 1");
        let error = of_build(&tail, Path::new("/tmp"));
        assert_eq!(error.code, FailureCode::DiskStorageFull);
        assert!(error.message.contains("/tmp"), "{error}");
        let tail = lines("mke2fs: Could not allocate block in ext2 filesystem while populating file system");
        let error = of_disk(&tail, Path::new("/"), Path::new("/"), 64, Some(100 << 20));
        assert_eq!(error.code, FailureCode::DiskStorageFull);
        assert_eq!(error.message, "the container's file system of 100 MiB does not fit on the root disk of 64 MiB");
    }
}
