//! Where something goes, as `cp -r` has it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::FilesError;

/// The path to make: in `path` under its own `name` when that is a directory, else `path` itself, whose directory must be
/// there. `name` is `None` where a source has none, as `/`.
///
/// # Errors
/// [`FilesError::Place`].
pub fn place(path: &Path, name: Option<&str>) -> Result<PathBuf, FilesError> {
    let wrong = |why| Err(FilesError::Place { path: path.to_owned(), why });
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return match name {
            Some(name) if !name.is_empty() && name != "." && name != ".." && !name.contains('/') => Ok(path.join(name)),
            _ => wrong("is a directory, and what is copied has no name of its own; name the copy"),
        };
    }
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return wrong("no such directory");
    }
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match parent.map(fs::metadata) {
        Some(Ok(found)) if found.is_dir() && path.file_name().is_some() => Ok(path.to_owned()),
        _ => wrong("the directory that it shall be in is not there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_cp_does() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path();
        fs::write(path.join("file"), "").expect("write");
        assert_eq!(place(path, Some("x")).expect("in it"), path.join("x"));
        assert_eq!(place(&path.join("new"), Some("x")).expect("as it"), path.join("new"));
        assert_eq!(place(&path.join("file"), None).expect("over it"), path.join("file"));
        assert_eq!(place(Path::new("new"), None).expect("here"), Path::new("new"));
        for (wrong, name) in
            [("", Some("..")), ("", Some("a/b")), ("", None), ("gone/new", None), ("gone/", None), ("file/x", None)]
        {
            assert!(place(&path.join(wrong), name).is_err(), "{wrong} {name:?}");
        }
    }
}
