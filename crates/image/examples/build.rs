//! Builds one artifact by hand: `build ZIP BUILDER_ROOT BASE_TAR OUT [DISK_MIB [TIMEOUT_S [CACHE_DIR [ALIAS]]]]`. Needs root.
//!
//! Prints the log as it comes, with seconds since the start, and what was built. Keeps its cache in `OUT/cache`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use image::{Alias, BuildLog, BuildRequest, Buildah, BuildahSettings, Builder, HostEnv};

struct Print(Instant);

impl BuildLog for Print {
    fn line(&self, text: &str) {
        println!("{:8.3} {text}", self.0.elapsed().as_secs_f64());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [zip, builder_root, base_tar, out, rest @ ..] = args.as_slice() else {
        eprintln!("usage: build ZIP BUILDER_ROOT BASE_TAR OUT [DISK_MIB [TIMEOUT_S [CACHE_DIR [ALIAS]]]]");
        return ExitCode::from(2);
    };
    let number = |index: usize, default: u64| rest.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
    let out = PathBuf::from(out);
    let cache_dir = rest.get(2).map_or_else(|| out.join("cache"), PathBuf::from);
    let mut settings = BuildahSettings::new(builder_root.into(), base_tar.into(), cache_dir);
    settings.ca_bundle = BuildahSettings::host_ca_bundle();
    settings.host_env = HostEnv::package_settings(std::env::vars());
    settings.build_timeout = Duration::from_secs(number(1, 1800));
    settings.base_alias.extend(rest.get(3).map(|name| (name.clone(), Alias::StandIn)));
    let request = BuildRequest {
        artifact: zip.into(),
        work_dir: out.join(format!("work-{}", std::process::id())),
        image_dir: out.clone(),
        disk_mib: number(0, 8192),
        env: vec![("FROM_REQUEST".to_owned(), "yes".to_owned())],
        additional_capabilities_all: false,
    };
    if let Err(error) = std::fs::create_dir_all(&out) {
        eprintln!("cannot create {}: {error}", out.display());
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let work_dir = request.work_dir.clone();
    let build = Buildah::new(settings);
    let log = Print(began);
    let outcome = tokio::select! {
        outcome = build.build(&request, &log) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    let seconds = began.elapsed().as_secs_f64();
    match outcome {
        Some(Ok(built)) => {
            println!("{seconds:8.3} built: {built:?} env {:?}", built.container.env);
            println!("work directory left behind: {}", work_dir.exists());
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            println!("{seconds:8.3} {}: {error}", error.code);
            println!("work directory left behind: {}", work_dir.exists());
            ExitCode::FAILURE
        }
        None => {
            println!("{seconds:8.3} cancelled");
            ExitCode::FAILURE
        }
    }
}
