//! Finds the program to execute as a shell would.

use std::path::{Path, PathBuf};

/// PATH of a container whose image sets none; Docker's value.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a candidate file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// Nothing, or nothing a program can be.
    Absent,
    /// A file that may not be executed.
    Forbidden,
    /// A file to execute.
    Program,
}

/// Why there is nothing to execute.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A name that is in no directory of PATH.
    #[error("{0}: executable file not found in $PATH")]
    NotFound(String),
    /// A file that may not be executed.
    #[error("{0}: permission denied")]
    Forbidden(String),
}

impl ProgramError {
    /// The exit code a shell gives for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::Forbidden(_) => 126,
        }
    }
}

/// The path to execute for `name`: itself when it has a slash, else the first program in `path`'s directories (an empty one
/// is the working directory). `probe` looks at a file.
pub fn find(name: &str, path: &str, probe: impl Fn(&Path) -> Candidate) -> Result<PathBuf, ProgramError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut forbidden = false;
    for directory in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match probe(&candidate) {
            Candidate::Program => return Ok(candidate),
            Candidate::Forbidden => forbidden = true,
            Candidate::Absent => {}
        }
    }
    let name = name.to_owned();
    Err(if forbidden { ProgramError::Forbidden(name) } else { ProgramError::NotFound(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(path: &Path) -> Candidate {
        match path.to_str() {
            Some("/bin/run" | "/usr/bin/run" | "./run") => Candidate::Program,
            Some("/sbin/run" | "/sbin/data") => Candidate::Forbidden,
            _ => Candidate::Absent,
        }
    }

    #[test]
    fn the_first_program_of_path_is_taken() {
        assert_eq!(find("run", "/sbin:/bin:/usr/bin", probe), Ok("/bin/run".into()));
        assert_eq!(find("run", "/usr/bin:/bin", probe), Ok("/usr/bin/run".into()));
        assert_eq!(find("run", "/none:", probe), Ok("./run".into()));
        assert_eq!(find("./any/thing", "/bin", probe), Ok("./any/thing".into()));
    }

    #[test]
    fn errors_are_a_shells() {
        let missing = find("gone", "/bin:/sbin", probe).expect_err("missing");
        assert_eq!(
            (missing.exit_code(), missing.to_string()),
            (127, "gone: executable file not found in $PATH".into())
        );
        let forbidden = find("data", "/bin:/sbin", probe).expect_err("forbidden");
        assert_eq!((forbidden.exit_code(), forbidden.to_string()), (126, "data: permission denied".into()));
        assert_eq!(find("", "/bin", probe).expect_err("empty").exit_code(), 127);
    }
}
