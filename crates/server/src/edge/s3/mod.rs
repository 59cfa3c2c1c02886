//! The embedded object store: S3's protocol by `s3s`, over a directory by `s3s-fs`, with rules of our own in between.
//!
//! `<dir>/<account>/<bucket>/<key>` is the object; side files with metadata stand hidden in `<dir>/<account>`. Buckets belong
//! to the account of the key that a request is signed with: two accounts can have buckets of the same name, and never see
//! each other's.

mod access;
mod accounts;
mod backend;
mod host;
mod names;

use std::{
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::AccountId;
use futures::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use s3s::{
    auth::{S3Auth, SecretKey},
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};

use super::{
    Keys,
    answer::{self, Body},
};

/// The object store.
#[derive(Clone)]
pub struct S3Store {
    root: PathBuf,
    service: S3Service,
}

/// Why an object cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum S3Lookup {
    /// No such bucket.
    #[error("the bucket '{0}' does not exist; create it with: aws s3 mb s3://{0}")]
    NoSuchBucket(String),
    /// No such object in the bucket.
    #[error("the bucket '{bucket}' has no object '{key}'")]
    NoSuchKey {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// It could not be read, or the copy not be written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the object store in {}: {reason}", dir.display())]
pub struct S3OpenError {
    dir: PathBuf,
    reason: String,
}

impl S3Store {
    /// Opens the store in `dir`, which is created when missing. `base_domains` are the host names under which
    /// `<bucket>.<domain>` is a bucket, such as [`S3Store::BASE_DOMAINS`]; on any other host buckets are in the path. `partition` is
    /// that of the ARNs in policies, such as `aws`.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn new(
        dir: &Path,
        keys: Arc<dyn Keys>,
        base_domains: &[&str],
        partition: &'static str,
    ) -> Result<Self, S3OpenError> {
        let failed = |reason: String| S3OpenError { dir: dir.to_owned(), reason };
        std::fs::create_dir_all(dir).map_err(|error| failed(error.to_string()))?;
        let root = dir.canonicalize().map_err(|error| failed(error.to_string()))?;
        let mut builder = S3ServiceBuilder::new(accounts::Accounts::new(root.clone(), Arc::clone(&keys)));
        builder.set_access(access::Policies::new(Arc::clone(&keys), partition));
        builder.set_auth(KeysAuth(keys));
        builder.set_host(host::Hosts::new(base_domains));
        Ok(S3Store { root, service: builder.build() })
    }

    /// The host names that reach this machine without any set-up.
    pub const BASE_DOMAINS: [&str; 2] = ["localhost", "s3.localhost"];

    /// Answers one S3 request.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let request = request.map(s3s::Body::from);
        let outcome = AssertUnwindSafe(self.service.call(request)).catch_unwind().await;
        let error = match outcome {
            Ok(Ok(response)) => return answer::boxed(response),
            Ok(Err(error)) => format!("{error:?}"),
            Err(_) => "panic".to_owned(),
        };
        tracing::error!(error, "the object store failed");
        answer::xml(
            500,
            "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>".to_owned(),
        )
    }

    /// Copies an object of an account to the file `to`, which must not exist; returns its size in bytes. A concurrent upload does not
    /// mix in: the copy is of the old or of the new object. On failure no file is left.
    ///
    /// # Errors
    /// See [`S3Lookup`].
    pub async fn fetch(&self, account: &AccountId, bucket: &str, key: &str, to: &Path) -> Result<u64, S3Lookup> {
        let (root, bucket, key, to) = (self.dir(account), bucket.to_owned(), key.to_owned(), to.to_owned());
        let copy = tokio::task::spawn_blocking(move || copy(&root, bucket, key, &to));
        copy.await.unwrap_or_else(|error| {
            let path = self.dir(account);
            Err(S3Lookup::Io { what: "cannot copy from", path, source: io::Error::other(error) })
        })
    }

    /// Everything of one account lies here.
    fn dir(&self, account: &AccountId) -> PathBuf {
        self.root.join(account.as_str())
    }
}

fn copy(root: &Path, bucket: String, key: String, to: &Path) -> Result<u64, S3Lookup> {
    let (path, mut from) = open(root, bucket, key)?;
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| S3Lookup::Io { what, path, source }
    };
    let mut file = std::fs::File::create_new(to).map_err(failed("cannot create", to))?;
    io::copy(&mut from, &mut file).map_err(|source| {
        // The error that matters is the copy's; a file that cannot be removed either is beyond help.
        let _ = std::fs::remove_file(to);
        let what = "cannot copy the object to";
        let path = if source.kind() == io::ErrorKind::StorageFull { to } else { &path };
        failed(what, path)(source)
    })
}

fn open(root: &Path, bucket: String, key: String) -> Result<(PathBuf, std::fs::File), S3Lookup> {
    if !names::bucket_fits(&bucket) || !root.join(&bucket).is_dir() {
        return Err(S3Lookup::NoSuchBucket(bucket));
    }
    if names::check_key(&bucket, &key).is_err() {
        return Err(S3Lookup::NoSuchKey { bucket, key });
    }
    let path = root.join(&bucket).join(&key);
    match std::fs::File::open(&path) {
        Ok(file) if path.is_file() => Ok((path, file)),
        Ok(_) => Err(S3Lookup::NoSuchKey { bucket, key }),
        Err(source) if names::is_absent(&source) => Err(S3Lookup::NoSuchKey { bucket, key }),
        Err(source) => Err(S3Lookup::Io { what: "cannot read", path, source }),
    }
}

/// The same keys as for every other service.
struct KeysAuth(Arc<dyn Keys>);

#[async_trait::async_trait]
impl S3Auth for KeysAuth {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        let credential = self.0.secret(access_key).await;
        let credential = credential.ok_or_else(|| {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        })?;
        Ok(SecretKey::from(credential.secret.expose().as_str()))
    }
}
