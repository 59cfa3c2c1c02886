//! What a `FROM` means: an image in the local storage, else its registry's, else the configured alias.
//!
//! buildah does the first two by itself. For the third, the images with an alias that the Dockerfile mentions are looked
//! for before the build, within a short bound; those whose registry is out of reach are replaced for this build alone, by
//! `--build-context`. Any other spelling (`ARG` and the like) shows when buildah fails to pull: then the build starts again
//! with the replacement. Whether a registry *refuses* an image is not asked: that is an answer.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    cache,
    error::BuildError,
    failure,
    froms::{self, full_name, registry},
    sandbox::{Command, How, Sandbox},
    settings::{Alias, BuildahSettings},
};

/// Repository of imported stand-ins; the tag tells them apart.
const STAND_IN: &str = "localhost/hearth/base";

/// Registries that could not be reached, and until when they are left alone.
#[derive(Default)]
pub(crate) struct Unreachable(Mutex<HashMap<String, Instant>>);

impl Unreachable {
    fn contains(&self, registry: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        known.retain(|_, until| *until > Instant::now());
        known.contains_key(registry)
    }

    fn insert(&self, registry: &str, keep: Duration) {
        let mut known = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        known.insert(registry.to_owned(), Instant::now() + keep);
    }
}

/// Images replaced in one build: as the Dockerfile writes it, and by what.
pub(crate) type Replaced = Vec<(String, String)>;

/// Decides what to build on, for one build.
pub(crate) struct Resolver<'a> {
    pub settings: &'a BuildahSettings,
    pub sandbox: &'a Sandbox<'a>,
    pub unreachable: &'a Unreachable,
    pub dockerfile: &'a str,
}

impl Resolver<'_> {
    /// The replacements that can be known before the build.
    pub(crate) fn before(&self, line: &mut dyn FnMut(&str)) -> Result<Replaced, BuildError> {
        let mut replaced = Vec::new();
        for (name, alias) in &self.settings.base_alias {
            let mut written = froms::spellings(self.dockerfile, &full_name(name));
            if froms::mentions(self.dockerfile, name) {
                written.push(name.clone());
            }
            if !written.is_empty() && !self.available(name)? {
                let by = self.replace(name, alias, line)?;
                replaced.extend(written.into_iter().map(|written| (written, by.clone())));
            }
        }
        Ok(replaced)
    }

    /// After a failed build: true when there is a replacement to start again with.
    pub(crate) fn after(
        &self,
        tail: &[String],
        replaced: &mut Replaced,
        line: &mut dyn FnMut(&str),
    ) -> Result<bool, BuildError> {
        let Some(image) = failure::unreachable_image(tail) else { return Ok(false) };
        let full = full_name(image);
        let known = self.settings.base_alias.iter().find(|(name, _)| full_name(name) == full);
        let Some((_, alias)) = known else { return Ok(false) };
        let mut written = froms::spellings(self.dockerfile, &full);
        written.push(failure::last_from(tail).unwrap_or(image).to_owned());
        written.retain(|written| !replaced.iter().any(|(name, _)| name == written));
        if written.is_empty() {
            return Ok(false);
        }
        self.unreachable.insert(&registry(image), self.settings.registry_retry_after);
        let by = self.replace(image, alias, line)?;
        replaced.extend(written.into_iter().map(|written| (written, by.clone())));
        Ok(true)
    }

    /// In the storage, or its registry answers.
    fn available(&self, name: &str) -> Result<bool, BuildError> {
        let registry = registry(name);
        let known = self.unreachable.contains(&registry);
        let ask = "buildah inspect --type image \"$1\" >/dev/null 2>&1 && exit; [ \"$2\" != known ] || exit 9
            exec buildah manifest inspect \"$1\"";
        let known_word = if known { "known" } else { "" };
        let argv = ["/bin/sh", "-c", ask, "sh", name, known_word].map(str::to_owned).into();
        let command = Command { argv, limit: Some(self.settings.registry_timeout), ..Command::default() };
        let ended = self.sandbox.run(&command, &mut |_| {})?;
        let reachable = match ended.how {
            How::Success => true,
            _ if known => return Ok(false),
            How::OverLimit => false,
            How::Failed(_) => !failure::says_unreachable(&ended.tail),
        };
        if !reachable {
            self.unreachable.insert(&registry, self.settings.registry_retry_after);
        }
        Ok(reachable)
    }

    fn replace(&self, name: &str, alias: &Alias, line: &mut dyn FnMut(&str)) -> Result<String, BuildError> {
        match alias {
            Alias::StandIn => {
                let title = &self.settings.base_title;
                line(&format!(
                    "FROM {name}: registry cannot be reached; building on hearth's offline stand-in ({title}) instead"
                ));
                self.import(line)
            }
            Alias::Image(image) => {
                line(&format!("FROM {name}: registry cannot be reached; building on {image} instead, as configured"));
                Ok(image.clone())
            }
        }
    }

    /// The stand-in's name in the storage, where it is put first if this tar was not before. Safe to repeat.
    fn import(&self, line: &mut dyn FnMut(&str)) -> Result<String, BuildError> {
        let tar = &self.settings.base_tar;
        let name = format!("{STAND_IN}:{}", identity(tar)?);
        let mut told = false;
        let mut wait = || self.sandbox.give_way(&mut told, line);
        let _once = cache::exclusive(&self.settings.cache_dir, "import.lock", &mut wait)?;
        let argv = ["/usr/bin/buildah", "inspect", "--type", "image", &name].map(str::to_owned).into();
        let present = self.sandbox.run(&Command { argv, ..Command::default() }, &mut |_| {})?;
        if present.how == How::Success {
            return Ok(name);
        }
        line("importing the stand-in base image (once)");
        let argv = ["/bin/sh", "-c", include_str!("scripts/import.sh"), "sh", &name].map(str::to_owned).into();
        let binds = vec![(tar.clone(), "/build/base.tar", false)];
        let ended = self.sandbox.run(&Command { argv, binds, ..Command::default() }, &mut |_| {})?;
        match ended.how {
            How::Success => Ok(name),
            _ => Err(failure::of_platform("import the stand-in base image", &ended.tail, &self.settings.cache_dir)),
        }
    }
}

/// Changes when the tar does.
fn identity(tar: &Path) -> Result<String, BuildError> {
    let hint = |error| BuildError::io("read the stand-in base image", tar, &error);
    let meta = fs::metadata(tar).map_err(hint)?;
    if meta.mode() & 0o004 == 0 {
        return Err(BuildError::platform(format!(
            "the stand-in base image {} must be readable by others: builds run as an unprivileged user; chmod o+r it",
            tar.display()
        )));
    }
    let text = format!("{} {} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
    let digest = Sha256::digest(text.as_bytes());
    Ok(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_registry_is_left_alone_for_a_while() {
        let unreachable = Unreachable::default();
        unreachable.insert("a.b", Duration::from_secs(60));
        unreachable.insert("c.d", Duration::ZERO);
        assert!(unreachable.contains("a.b"));
        assert!(!unreachable.contains("c.d"));
    }

    #[test]
    fn the_stand_in_s_identity_follows_the_tar() {
        let dir = tempfile::tempdir().expect("a directory");
        let tar = dir.path().join("base.tar");
        fs::write(&tar, "one").expect("writes");
        let first = identity(&tar).expect("reads");
        assert_eq!(first, identity(&tar).expect("reads"));
        fs::write(&tar, "three").expect("writes");
        assert_ne!(first, identity(&tar).expect("reads"));
        assert!(identity(&dir.path().join("none")).is_err());
    }
}
