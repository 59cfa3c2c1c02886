//! Whose buckets? Those of the account of the key that the request's verified signature names.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use api::AccountId;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    auth::Credentials,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput, CreateBucketOutput,
        CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput,
        DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput,
        GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
        HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput, PutObjectOutput, UploadPartCopyInput,
        UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};

use super::{super::Keys, backend::Backend};

/// The stores of all accounts, each made on first use.
pub(super) struct Accounts {
    root: PathBuf,
    keys: Arc<dyn Keys>,
    stores: Mutex<HashMap<AccountId, Arc<Backend>>>,
}

impl Accounts {
    /// `root` exists and is canonical.
    pub(super) fn new(root: PathBuf, keys: Arc<dyn Keys>) -> Self {
        Accounts { root, keys, stores: Mutex::default() }
    }

    /// The store of who signed the request. `s3s` hands over credentials that it has verified, or none.
    async fn of(&self, credentials: Option<&Credentials>) -> S3Result<Arc<Backend>> {
        let signed = credentials.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?;
        let credential = self.keys.secret(&signed.access_key).await;
        // It was there when the signature was verified.
        let account = credential.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?.account;
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&account) {
            return Ok(Arc::clone(store));
        }
        let dir = self.root.join(account.as_str());
        std::fs::create_dir_all(&dir).map_err(|error| s3_error!(error, InternalError))?;
        let store = Arc::new(Backend::new(&dir).map_err(|error| {
            tracing::error!(dir = %dir.display(), ?error, "the object store of an account cannot be opened");
            s3_error!(InternalError)
        })?);
        stores.insert(account, Arc::clone(&store));
        Ok(store)
    }
}

macro_rules! forwarded {
    ($($method:ident($input:ident) -> $output:ident;)+) => {
        #[async_trait::async_trait]
        impl S3 for Accounts {
            $(async fn $method(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.of(req.credentials.as_ref()).await?.$method(req).await
            })+
        }
    };
}

forwarded! {
    create_bucket(CreateBucketInput) -> CreateBucketOutput;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    list_buckets(ListBucketsInput) -> ListBucketsOutput;
    list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    put_object(PutObjectInput) -> PutObjectOutput;
    copy_object(CopyObjectInput) -> CopyObjectOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part(UploadPartInput) -> UploadPartOutput;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    list_parts(ListPartsInput) -> ListPartsOutput;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
}
