//! Do the records and the files of a data directory belong together? For `hearth check` and the crash harness.
//!
//! What is at rest is looked at: nothing being built, started, suspended, woken or removed.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use api::{ImageVersion, ImageVersionStatus};
use lifecycle::{
    images::{Progress, State as ImageState},
    microvms::State,
};

use crate::store::{ImageRecord, MicrovmRecord, Store, StoreError, VersionRecord};

/// What a sealed version consists of, with either engine.
const IMAGE_FILES: [&str; 4] = ["rootfs.ext4", "disk.qcow2", "memory", engine::SEALED];
/// What is left of a microVM that sleeps, beside its checkpoint.
const SLEEPER_FILES: [&str; 2] = ["disk.qcow2", "disk.json"];
/// Endings of what is being written.
const UNFINISHED: [&str; 4] = [".partial", ".saving", ".tmp", ".new"];

/// Why it could not be looked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No server ever used the directory.
    #[error("there is no {}", .0.display())]
    NoStore(PathBuf),
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One line for each thing that is left over, missing or at odds. Changes nothing.
pub async fn check(data_dir: &Path) -> Result<Vec<String>, CheckError> {
    let path = data_dir.join("hearth.db");
    if !path.is_file() {
        return Err(CheckError::NoStore(path));
    }
    let store = Store::open(&path).await?;
    let mut found = Findings(store.audit().await?);
    let (mut images, mut builds) = (HashSet::new(), HashSet::new());
    for image in store.all_images().await? {
        let versions = store.all_versions(image.id).await?;
        found.image(data_dir, &image, &versions);
        images.insert(image.id.to_string());
        let open = |version: &&VersionRecord| !is_done(version.build.progress);
        builds.extend(versions.iter().filter(open).map(|version| version.build.id.to_string()));
    }
    let mut microvms = HashSet::new();
    for microvm in store.live_microvms().await? {
        found.microvm(data_dir, &microvm);
        microvms.insert(microvm.id.to_string());
    }
    let named = store.names().await?.into_iter().filter_map(|record| record.certificate);
    let named: HashSet<_> = named.map(|id| id.to_string()).collect();
    for id in named.iter().filter(|id| !data_dir.join("names").join(id).join("key.pem").is_file()) {
        found.add(data_dir.join("names").join(id), "a host name's certificate is missing");
    }
    for (kind, known) in [("images", images), ("builds", builds), ("microvms", microvms), ("names", named)] {
        for path in entries(&data_dir.join(kind)).into_iter().filter(|path| !known.contains(&name(path))) {
            found.add(&path, "no record names it");
        }
    }
    for dir in ["", "ca", "run", "images", "microvms"] {
        found.unfinished(&data_dir.join(dir), !dir.is_empty());
    }
    store.close().await;
    Ok(found.0)
}

struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, what: impl AsRef<Path>, problem: &str) {
        self.0.push(format!("{}: {problem}", what.as_ref().display()));
    }

    fn expect(&mut self, good: bool, what: &str, problem: &str) {
        if !good {
            self.add(what, problem);
        }
    }

    fn image(&mut self, data_dir: &Path, image: &ImageRecord, versions: &[VersionRecord]) {
        let arn = image.arn.to_string();
        let newest = |wanted: &dyn Fn(&&VersionRecord) -> bool| -> Option<ImageVersion> {
            versions.iter().filter(|version| !version.deleting).find(wanted).map(|version| version.version)
        };
        let active = newest(&|version| version.status == ImageVersionStatus::Active);
        self.expect(image.latest_active == active, &arn, "latestActiveImageVersion is not its newest active version");
        let failed = newest(&|version| version.build.progress == Progress::Failed);
        self.expect(image.latest_failed == failed, &arn, "latestFailedImageVersion is not its newest failed version");
        let open = versions.iter().any(|version| !is_done(version.build.progress));
        self.expect(image.state.building() == open, &arn, "its state and its builds disagree");
        let deleting = versions.iter().any(|version| version.deleting);
        self.expect((image.state == ImageState::Pruning) == deleting, &arn, "its state and its deletions disagree");

        let dir = data_dir.join("images").join(image.id.to_string());
        let with_files: Vec<String> = versions
            .iter()
            .filter(|version| version.build.progress != Progress::Failed)
            .map(|version| version.version.to_string())
            .collect();
        for path in entries(&dir).into_iter().filter(|path| !with_files.contains(&name(path))) {
            self.add(path, "no version has it");
        }
        for version in versions.iter().filter(|version| version.build.progress == Progress::Successful) {
            self.version(&dir.join(version.version.to_string()));
        }
    }

    fn version(&mut self, dir: &Path) {
        for needed in ["rootfs.ext4", "memory", engine::SEALED] {
            if !dir.join(needed).exists() {
                self.add(dir.join(needed), "it is missing");
            }
        }
        for path in entries(dir).into_iter().filter(|path| !IMAGE_FILES.contains(&name(path).as_str())) {
            self.add(path, "it belongs to no sealed version");
        }
    }

    fn microvm(&mut self, data_dir: &Path, record: &MicrovmRecord) {
        let id = record.id.to_string();
        let dir = data_dir.join("microvms").join(&id);
        if !record.image_dir.join(engine::SEALED).exists() {
            self.add(&record.image_dir, "its image is missing");
        }
        let checkpoints = entries(&dir).into_iter().filter(|path| name(path).starts_with("saved-"));
        for path in checkpoints.filter(|path| record.saved_dir.as_ref() != Some(path)) {
            self.add(path, "its microVM would not be restored from it");
        }
        match record.life.state {
            State::Running => self.expect(
                record.machine.is_some() && record.saved_dir.is_none(),
                &id,
                "it is RUNNING without a machine, or with a checkpoint",
            ),
            State::Suspended if !record.life.waking => self.sleeper(&dir, record),
            _ => self.add(&id, "it is not at rest"),
        }
    }

    fn sleeper(&mut self, dir: &Path, record: &MicrovmRecord) {
        let saved = record.saved_dir.as_ref().is_some_and(|saved| saved.is_dir());
        self.expect(
            record.machine.is_none() && saved,
            &record.id.to_string(),
            "it is SUSPENDED with a machine, or without a checkpoint",
        );
        let stray =
            |path: &PathBuf| record.saved_dir.as_ref() != Some(path) && !SLEEPER_FILES.contains(&name(path).as_str());
        for path in entries(dir).into_iter().filter(stray) {
            self.add(path, "its microVM sleeps and does not need it");
        }
    }

    fn unfinished(&mut self, dir: &Path, deep: bool) {
        for path in entries(dir) {
            let name = name(&path);
            if UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
                self.add(path, "it was never finished");
            } else if deep && fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                self.unfinished(&path, true);
            }
        }
    }
}

fn is_done(progress: Progress) -> bool {
    matches!(progress, Progress::Successful | Progress::Failed)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a directory; nothing when it is not there. A directory that cannot be read is told by what is missing in it.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    let mut all = read().unwrap_or_default();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_record_names_is_found() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(matches!(check(dir.path()).await, Err(CheckError::NoStore(_))));
        Store::open(&dir.path().join("hearth.db")).await.expect("opens").close().await;
        assert_eq!(check(dir.path()).await.expect("looks"), Vec::<String>::new());
        for made in ["images/a", "microvms/b/saved-3", "builds/c", "ca/ca.key.new", "microvms/b/saved-4.partial"] {
            fs::create_dir_all(dir.path().join(made)).expect("makes");
        }
        let found = check(dir.path()).await.expect("looks").join("\n");
        for name in
            ["images/a: no record", "microvms/b: no record", "builds/c: no record", "ca.key.new: it was", "saved-4"]
        {
            assert!(found.contains(name), "{name} in {found}");
        }
    }
}
