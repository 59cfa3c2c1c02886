//! The zip that is uploaded.

use std::{
    fs,
    io::{Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Largest zip, bytes: it is held in memory.
const MAX_BYTES: usize = 1 << 30;
/// Never part of an application.
const SKIPPED: [&str; 3] = [".git", ".hg", ".svn"];

/// The zip file, or the directory as a zip: files and symbolic links with their modes, without version control's own.
/// `.dockerignore` is the builder's work. The same files make the same bytes.
pub fn read(source: &Path) -> Result<Vec<u8>> {
    let shown = source.display();
    if !fs::metadata(source).with_context(|| format!("read {shown}"))?.is_dir() {
        return fs::read(source).with_context(|| format!("read {shown}"));
    }
    if !source.join("Dockerfile").is_file() {
        bail!("{shown} has no Dockerfile; the image is built from the one at the root of the directory");
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut zip, source, "")?;
    Ok(zip.finish().context("finish the zip")?.into_inner())
}

fn add(zip: &mut ZipWriter<Cursor<Vec<u8>>>, dir: &Path, prefix: &str) -> Result<()> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("read {}", dir.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { bail!("{} is not named in UTF-8", path.display()) };
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let name = format!("{prefix}{name}");
        let wrong = || format!("add {}", path.display());
        let metadata = fs::symlink_metadata(&path).with_context(wrong)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(metadata.permissions().mode() & 0o777);
        if metadata.is_dir() {
            zip.add_directory(&name, options).with_context(wrong)?;
            add(zip, &path, &format!("{name}/"))?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).with_context(wrong)?;
            zip.add_symlink(&name, target.to_string_lossy(), options).with_context(wrong)?;
        } else if metadata.is_file() {
            let bytes = fs::read(&path).with_context(wrong)?;
            if bytes.len() > MAX_BYTES {
                bail!("{} is larger than 1 GiB; fetch it in a RUN step instead", path.display());
            }
            zip.start_file(&name, options).with_context(wrong)?;
            zip.write_all(&bytes).with_context(wrong)?;
        } else {
            bail!("{} is neither file, directory nor symbolic link", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink};

    use zip::ZipArchive;

    use super::*;

    #[test]
    fn a_directory_becomes_the_same_zip_every_time() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        fs::create_dir_all(dir.join("src/.git")).unwrap();
        assert!(read(dir).unwrap_err().to_string().contains("no Dockerfile"));
        fs::write(dir.join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(dir.join("src/run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.join("src/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("run.sh", dir.join("src/link")).unwrap();
        let bytes = read(dir).unwrap();
        assert_eq!(bytes, read(dir).unwrap());
        let mut zip = ZipArchive::new(Cursor::new(&bytes)).unwrap();
        let names: Vec<_> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["Dockerfile", "src/", "src/link", "src/run.sh"]);
        assert_eq!(zip.by_name("src/run.sh").unwrap().unix_mode().unwrap() & 0o777, 0o755);
        assert!(zip.by_name("src/link").unwrap().is_symlink());
        let mut text = String::new();
        zip.by_name("Dockerfile").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "FROM scratch\n");
        fs::write(dir.join("a.zip"), &bytes).unwrap();
        assert_eq!(read(&dir.join("a.zip")).unwrap(), bytes);
    }
}
