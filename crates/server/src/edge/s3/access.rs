//! May the caller do that? The same policies as for every other service, with S3's actions and resources.

use std::sync::Arc;

use iam::Decision;
use s3s::{
    S3Error, S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::Credentials,
    dto::{CopyObjectInput, CopySource, DeleteObjectsInput, UploadPartCopyInput},
    path::S3Path,
    s3_error,
};

use super::super::{Identity, Keys};

/// Asks the policies of the user whose key signed.
pub(super) struct Policies {
    keys: Arc<dyn Keys>,
    partition: &'static str,
}

impl Policies {
    /// `partition` is that of the ARNs in policies, such as `aws`.
    pub(super) fn new(keys: Arc<dyn Keys>, partition: &'static str) -> Self {
        Policies { keys, partition }
    }

    async fn identity(&self, credentials: Option<&Credentials>) -> S3Result<Arc<Identity>> {
        let signed = credentials.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?;
        let credential = self.keys.secret(&signed.access_key).await;
        Ok(credential.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?.identity)
    }

    fn bucket(&self, bucket: &str) -> String {
        format!("arn:{}:s3:::{bucket}", self.partition)
    }

    fn object(&self, bucket: &str, key: &str) -> String {
        format!("arn:{}:s3:::{bucket}/{key}", self.partition)
    }

    async fn may_copy(&self, credentials: Option<&Credentials>, from: &CopySource) -> S3Result<()> {
        let CopySource::Bucket { bucket, key, .. } = from else { return Err(s3_error!(NotImplemented)) };
        let identity = self.identity(credentials).await?;
        authorize(&identity, "s3:GetObject", &self.object(bucket, key))
    }
}

fn authorize(identity: &Identity, action: &str, resource: &str) -> S3Result<()> {
    let why = match identity.decide(action, resource) {
        Decision::Allow => return Ok(()),
        Decision::ExplicitDeny => "with an explicit deny in an identity-based policy".to_owned(),
        Decision::ImplicitDeny => format!("because no identity-based policy allows the {action} action"),
    };
    let arn = identity.arn();
    let message = format!("User: {arn} is not authorized to perform: {action} on resource: {resource} {why}");
    Err(S3Error::with_message(s3s::S3ErrorCode::AccessDenied, message))
}

/// The action that an operation is, where it is not called alike (the service authorization reference of S3).
fn action(operation: &str) -> String {
    let action = match operation {
        "ListBuckets" => "ListAllMyBuckets",
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => "ListBucket",
        "HeadObject" => "GetObject",
        "CopyObject" | "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => {
            "PutObject"
        }
        "ListParts" => "ListMultipartUploadParts",
        other => other,
    };
    format!("s3:{action}")
}

#[async_trait::async_trait]
impl S3Access for Policies {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let identity = self.identity(cx.credentials()).await?;
        // Its objects are in the body: each is asked for below.
        if cx.s3_op().name() == "DeleteObjects" {
            return Ok(());
        }
        let resource = match cx.s3_path() {
            S3Path::Root => self.bucket("*"),
            S3Path::Bucket { bucket } => self.bucket(bucket),
            S3Path::Object { bucket, key } => self.object(bucket, key),
        };
        authorize(&identity, &action(cx.s3_op().name()), &resource)
    }

    async fn delete_objects(&self, req: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let identity = self.identity(req.credentials.as_ref()).await?;
        for object in &req.input.delete.objects {
            authorize(&identity, "s3:DeleteObject", &self.object(&req.input.bucket, &object.key))?;
        }
        Ok(())
    }

    async fn copy_object(&self, req: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.may_copy(req.credentials.as_ref(), &req.input.copy_source).await
    }

    async fn upload_part_copy(&self, req: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.may_copy(req.credentials.as_ref(), &req.input.copy_source).await
    }
}
