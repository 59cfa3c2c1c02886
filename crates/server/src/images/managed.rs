//! Managed (base) images: hearth offers AWS's one, with one version: the guest kernel and agent of this server.

use api::{
    ApiError, Architecture, BaseImageVersion, CpuConfiguration, ImageName, ManagedImageArn, ManagedImageSummary,
    ManagedImageVersion, ManagedImageVersionStatus, Region, Timestamp,
};

/// The name AWS uses (spec 2.2).
const NAME: &str = "al2023-1";
/// The only version.
const VERSION: BaseImageVersion = BaseImageVersion(1);
/// When hearth's first base was made: 2026-11-23, 00:00 UTC.
const CREATED_AT: Timestamp = Timestamp::from_millis(1_795_392_000_000);

fn arn(region: &Region) -> ManagedImageArn {
    let name: ImageName = NAME.parse().expect("a constant that is a name");
    ManagedImageArn::new(region.clone(), name)
}

/// The base version for a request: the one asked for, else the newest.
pub fn resolve(
    region: &Region,
    image: &ManagedImageArn,
    version: Option<BaseImageVersion>,
) -> Result<BaseImageVersion, ApiError> {
    if *image != arn(region) {
        return Err(ApiError::no_managed_image(image));
    }
    match version {
        Some(version) if version != VERSION => Err(ApiError::no_managed_version(image, version)),
        _ => Ok(VERSION),
    }
}

/// `ListManagedMicrovmImages`.
pub fn images(region: &Region) -> api::ListManagedMicrovmImagesOutput {
    let item = ManagedImageSummary { image_arn: arn(region), created_at: CREATED_AT, updated_at: Some(CREATED_AT) };
    api::ListManagedMicrovmImagesOutput { items: vec![item], next_token: None }
}

/// `ListManagedMicrovmImageVersions`.
pub fn versions(
    region: &Region,
    image: &ManagedImageArn,
    architectures: &[Architecture],
) -> Result<api::ListManagedMicrovmImageVersionsOutput, ApiError> {
    if *image != arn(region) {
        return Err(ApiError::image_not_found(image));
    }
    let item = ManagedImageVersion {
        image_arn: arn(region),
        image_version: VERSION,
        status: Some(ManagedImageVersionStatus::Available),
        supported_cpu_configurations: Some(
            architectures.iter().map(|&architecture| CpuConfiguration { architecture }).collect(),
        ),
        created_at: CREATED_AT,
        updated_at: Some(CREATED_AT),
    };
    Ok(api::ListManagedMicrovmImageVersionsOutput { items: vec![item], next_token: None })
}
