//! `s3s-fs` with the rules that it lacks.
//!
//! As it is, `s3s-fs` lets a key with `..` reach other buckets and side files, makes a bucket out of an upload to none, deletes
//! buckets that are not empty, keeps an upload whose checksum was wrong, and never calls fsync. Each is mended here. What
//! remains: keys longer than about 130 bytes are refused (side files carry their name in base64), an object and a "folder" of the
//! same name cannot both exist, a wrong checksum costs the object that was there before, a body that does not match its signed
//! hash is refused with 500 instead of 400, parts of uploads that were never completed stay, and a list reads the whole bucket.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{
    S3, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopySource, CreateBucketInput,
        CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
        DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
        GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsInput,
        ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput,
        PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use s3s_fs::FileSystem;

use super::names::{self, KeyError};

/// One account's files.
pub(super) struct Backend {
    files: FileSystem,
    root: PathBuf,
}

impl Backend {
    /// `root` exists and is canonical.
    pub(super) fn new(root: &Path) -> Result<Self, s3s_fs::Error> {
        Ok(Backend { files: FileSystem::new(root)?, root: root.to_owned() })
    }

    /// The directory of a bucket that exists.
    fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        let path = self.root.join(bucket);
        if names::bucket_fits(bucket) && path.is_dir() {
            return Ok(path);
        }
        Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// The file of a key that could exist in a bucket that does.
    fn key(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let bucket_dir = self.bucket(bucket)?;
        match names::check_key(bucket, key) {
            Ok(()) => Ok(bucket_dir.join(key)),
            Err(KeyError::TooLong) => Err(s3_error!(KeyTooLongError, "Your key is too long for this store")),
            Err(KeyError::Ambiguous) => {
                Err(s3_error!(InvalidArgument, "This store does not take keys with empty, '.' or '..' segments"))
            }
        }
    }

    /// The file of an object that exists.
    fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let path = self.key(bucket, key)?;
        if path.is_file() || (key.ends_with('/') && path.is_dir()) {
            return Ok(path);
        }
        Err(s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    /// The file of an object that is to be written.
    fn target(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let path = self.key(bucket, key)?;
        let taken = if key.ends_with('/') { path.is_file() } else { path.is_dir() };
        let below = path.ancestors().skip(1).take_while(|above| *above != self.root).any(Path::is_file);
        if taken || below {
            let message = "This store cannot hold an object and a prefix of the same name";
            return Err(s3_error!(InvalidRequest, "{}", message));
        }
        Ok(path)
    }

    /// `s3s-fs` leaves the side files of a deleted object.
    async fn remove_side_files(&self, bucket: &str, key: &str) {
        let (bucket, key) = (URL_SAFE_NO_PAD.encode(bucket), URL_SAFE_NO_PAD.encode(key));
        for kind in ["metadata", "internal"] {
            let path = self.root.join(format!(".bucket-{bucket}.object-{key}.{kind}.json"));
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a side file of a deleted object stays");
            }
        }
    }

    /// Makes a written object survive a power cut: the file, then each directory up to the root.
    async fn persist(&self, path: PathBuf) -> S3Result<()> {
        let root = self.root.clone();
        let sync = move || {
            let chain = path.ancestors().take_while(|above| above.starts_with(&root));
            chain.into_iter().try_for_each(|each| std::fs::File::open(each)?.sync_all())
        };
        let synced = tokio::task::spawn_blocking(sync).await.map_err(io::Error::other).and_then(|outcome| outcome);
        synced.map_err(|error| s3_error!(error, InternalError))
    }

    /// Ends a write: durable when it worked, gone when its checksum was wrong.
    async fn finish<T>(&self, path: PathBuf, outcome: S3Result<S3Response<T>>) -> S3Result<S3Response<T>> {
        match outcome {
            Ok(response) => {
                crash::point("object: written");
                self.persist(path).await?;
                crash::point("object: durable");
                Ok(response)
            }
            Err(error) => {
                if *error.code() == S3ErrorCode::BadDigest
                    && let Err(error) = tokio::fs::remove_file(&path).await
                {
                    tracing::error!(path = %path.display(), %error, "an object with a wrong checksum stays");
                }
                Err(error)
            }
        }
    }
}

fn copied_from(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, .. } => Ok((bucket, key)),
        _ => Err(s3_error!(NotImplemented, "Copies come from buckets only")),
    }
}

/// Does the directory hold any file, however deep? Empty directories are what deleted keys leave.
fn holds_objects(dir: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_objects(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket.clone();
        if !names::bucket_fits(&bucket) {
            return Err(s3_error!(InvalidBucketName, "The specified bucket is not valid."));
        }
        if self.bucket(&bucket).is_ok() {
            let message = "Your previous request to create the named bucket succeeded and you already own it.";
            return Err(s3_error!(BucketAlreadyOwnedByYou, "{}", message));
        }
        let outcome = self.files.create_bucket(req).await;
        self.finish(self.root.join(bucket), outcome).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        let path = self.bucket(&req.input.bucket)?;
        let holds = tokio::task::spawn_blocking(move || holds_objects(&path)).await;
        match holds.map_err(io::Error::other).and_then(|outcome| outcome) {
            Ok(false) => self.files.delete_bucket(req).await,
            Ok(true) => Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty")),
            Err(error) => Err(s3_error!(error, InternalError)),
        }
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&req.input.bucket)?;
        self.files.head_bucket(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket(&req.input.bucket)?;
        self.files.get_bucket_location(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.files.list_buckets(req).await
    }

    async fn list_objects(&self, mut req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.bucket(&req.input.bucket)?;
        // `s3s-fs` would claim the encoding without doing it, and clients would undo what was not done.
        req.input.encoding_type = None;
        self.files.list_objects(req).await
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.bucket(&req.input.bucket)?;
        req.input.encoding_type = None;
        self.files.list_objects_v2(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.object(&req.input.bucket, &req.input.key)?;
        self.files.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.object(&req.input.bucket, &req.input.key)?;
        self.files.head_object(req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let path = self.target(&req.input.bucket, &req.input.key)?;
        let outcome = self.files.put_object(req).await;
        self.finish(path, outcome).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = copied_from(&req.input.copy_source)?;
        self.object(bucket, key)?;
        let path = self.target(&req.input.bucket, &req.input.key)?;
        let outcome = self.files.copy_object(req).await;
        self.finish(path, outcome).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        self.key(&bucket, &key)?;
        if self.object(&bucket, &key).is_err() {
            // There is nothing of that name, which is what was asked for.
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let response = self.files.delete_object(req).await?;
        self.remove_side_files(&bucket, &key).await;
        Ok(response)
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let bucket = req.input.bucket.clone();
        let keys: Vec<String> = req.input.delete.objects.iter().map(|object| object.key.clone()).collect();
        for key in &keys {
            self.key(&bucket, key)?;
        }
        let response = self.files.delete_objects(req).await?;
        for key in &keys {
            self.remove_side_files(&bucket, key).await;
        }
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.target(&req.input.bucket, &req.input.key)?;
        self.files.create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.target(&req.input.bucket, &req.input.key)?;
        self.files.upload_part(req).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let (bucket, key) = copied_from(&req.input.copy_source)?;
        self.object(bucket, key)?;
        self.target(&req.input.bucket, &req.input.key)?;
        self.files.upload_part_copy(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.key(&req.input.bucket, &req.input.key)?;
        self.files.list_parts(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let path = self.target(&req.input.bucket, &req.input.key)?;
        let outcome = self.files.complete_multipart_upload(req).await;
        self.finish(path, outcome).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.key(&req.input.bucket, &req.input.key)?;
        self.files.abort_multipart_upload(req).await
    }
}
