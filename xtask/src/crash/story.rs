//! The two stories that are interrupted: of an image, from an empty directory, and of microVMs, of an image that is there.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use api::{
    CreateMicrovmImageInput, DeleteMicrovmImageInput, DeleteMicrovmImageVersionInput, ListManagedMicrovmImagesInput,
    ResumeMicrovmInput, SuspendMicrovmInput, TerminateMicrovmInput, UpdateMicrovmImageInput,
};
use serde_json::{Value, json};

use super::world::{Stop, Vm, World};

/// How often a part is played again because its microVM was lost: once a crash at most.
const LIVES: u32 = 4;
/// Name of the image.
const NAME: &str = "app";

/// A story from the first request to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// Create, update, a failed update, delete two versions, delete the image.
    Image,
    /// Run, suspend, resume, wake by request, failed resume, terminate.
    Microvm,
}

impl Story {
    /// As it is written before the names of its points.
    pub fn name(self) -> &'static str {
        match self {
            Story::Image => "image",
            Story::Microvm => "microvm",
        }
    }

    /// Plays it.
    pub fn play(self, world: &mut World) -> Result<()> {
        match self {
            Story::Image => image(world)?,
            Story::Microvm => microvm(world)?,
        }
        world.leave()
    }
}

/// What [`Story::Microvm`] starts from: an image with two versions, of which the second fails its first `/resume`.
pub fn template(world: &mut World) -> Result<()> {
    let arn = create(world)?;
    update(world, &arn, "2", "good", json!({ "HEARTH_FAKE_RESUME_STATUS": "500,200" }))?;
    world.image(&arn, Some("UPDATED"))?;
    world.leave()
}

/// Where [`Story::Image`] begins: a log as an older hearth kept it, which the first start moves.
pub fn older(data_dir: &Path) -> Result<()> {
    let group = data_dir.join("logs/older");
    fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
    fs::write(group.join("stream.jsonl"), "{\"n\":1,\"t\":1,\"m\":\"kept\"}\n").context("write a log")
}

fn image(world: &mut World) -> Result<()> {
    let arn = create(world)?;
    update(world, &arn, "2", "good", json!({}))?;
    world.image(&arn, Some("UPDATED"))?;
    update(world, &arn, "3", "bad", json!({}))?;
    world.image(&arn, Some("UPDATE_FAILED"))?;
    for version in ["3.0", "1.0"] {
        world.note(&format!("delete version {version}"));
        let input = json!({ "imageIdentifier": arn, "imageVersion": version });
        world.call_or_done::<DeleteMicrovmImageVersionInput>(input)?;
        world.image(&arn, Some("UPDATED"))?;
    }
    world.note("delete image");
    world.call_or_done::<DeleteMicrovmImageInput>(json!({ "imageIdentifier": arn }))?;
    world.image(&arn, None)?;
    let log = world.host.data_dir.join("logs/000000000000/older/stream.jsonl");
    if !log.is_file() {
        bail!("{} is not where it belongs", log.display());
    }
    Ok(())
}

fn microvm(world: &mut World) -> Result<()> {
    let arn = arn(world)?;
    let mut sleeper = lived(world, |world| {
        let mut vm = world.run(&arn, "1.0")?;
        world.request(&mut vm)?;
        suspend(world, &mut vm)?;
        Ok(vm)
    })?;
    let mut runner = lived(world, |world| {
        let mut vm = world.run(&arn, "1.0")?;
        world.request(&mut vm)?;
        Ok(vm)
    })?;
    world.note("suspend, resume, wake by request");
    lived(world, |world| {
        let mut vm = world.run(&arn, "1.0")?;
        world.request(&mut vm)?;
        suspend(world, &mut vm)?;
        world.ask::<ResumeMicrovmInput>(&mut vm)?;
        world.become_state(&mut vm, "RUNNING")?;
        world.request(&mut vm)?;
        suspend(world, &mut vm)?;
        world.request(&mut vm)?;
        terminate(world, &mut vm)
    })?;
    world.note("failed resume");
    lived(world, |world| {
        let mut vm = world.run(&arn, "2.0")?;
        world.request(&mut vm)?;
        suspend(world, &mut vm)?;
        fail_to_resume(world, &mut vm)?;
        world.request(&mut vm)?;
        terminate(world, &mut vm)
    })?;
    world.note("terminate asleep, terminate awake");
    let slept = world.request(&mut sleeper).and_then(|()| suspend(world, &mut sleeper));
    slept.and_then(|()| terminate(world, &mut sleeper)).or_else(forgive)?;
    world.request(&mut runner).and_then(|()| terminate(world, &mut runner)).or_else(forgive)?;
    world.note("delete image");
    world.call_or_done::<DeleteMicrovmImageInput>(json!({ "imageIdentifier": arn }))?;
    world.image(&arn, None)
}

/// Plays a part until its microVM has lived through it.
fn lived<T>(world: &mut World, part: impl Fn(&mut World) -> Result<T, Stop>) -> Result<T> {
    for _ in 0..LIVES {
        match part(world) {
            Ok(done) => return Ok(done),
            Err(Stop::Lost) => world.note("lost, as it may be; again"),
            Err(Stop::Wrong(error)) => return Err(error),
        }
    }
    bail!("lost {LIVES} times")
}

/// A loss that was possible ends what the story had still to tell of a microVM.
fn forgive(stop: Stop) -> Result<()> {
    match stop {
        Stop::Lost => Ok(()),
        Stop::Wrong(error) => Err(error),
    }
}

fn suspend(world: &mut World, vm: &mut Vm) -> Result<(), Stop> {
    world.ask::<SuspendMicrovmInput>(vm)?;
    world.become_state(vm, "SUSPENDED").map(drop)
}

/// The first `/resume` fails: it sleeps on, and says why.
fn fail_to_resume(world: &mut World, vm: &mut Vm) -> Result<(), Stop> {
    world.ask::<ResumeMicrovmInput>(vm)?;
    for _ in 0..2000 {
        let found = world.look(vm)?;
        if found["state"] == "RUNNING" && world.host.crashes > 0 {
            // The server was killed after the first call of the hook, and its next one called again.
            return Ok(());
        }
        if found["state"] == "SUSPENDED" && found["stateReason"].is_string() {
            return world.become_state(vm, "SUSPENDED").map(drop);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(anyhow::anyhow!("{} neither woke nor said why not", vm.id).into())
}

fn terminate(world: &mut World, vm: &mut Vm) -> Result<(), Stop> {
    world.ask::<TerminateMicrovmInput>(vm)?;
    world.become_state(vm, "TERMINATED").map(drop)
}

fn create(world: &mut World) -> Result<String> {
    for path in ["/artifacts".to_owned(), "/artifacts/good.zip".to_owned(), "/artifacts/bad.zip".to_owned()] {
        let body = match path.as_str() {
            "/artifacts" => Vec::new(),
            "/artifacts/good.zip" => {
                zip(&[("Dockerfile", include_bytes!("app/Dockerfile")), ("server.py", include_bytes!("app/server.py"))])
            }
            _ => zip(&[("README", b"no Dockerfile here")]),
        };
        let outcome = world.persist(|client| Ok(client.put(&path, &body)))?;
        // A bucket that was made by the request whose answer was lost.
        if let Err(refusal) = outcome.map_err(|refusal| refusal.to_owned())
            && !refusal.starts_with("409")
        {
            bail!("PUT {path}: {refusal}");
        }
    }
    let mut input = configuration(world, "good", json!({}))?;
    input["name"] = NAME.into();
    input["clientToken"] = "create-app".into();
    let made = world.call::<CreateMicrovmImageInput>(input)?;
    let arn = made["imageArn"].as_str().context("no imageArn")?.to_owned();
    world.image(&arn, Some("CREATED"))?;
    Ok(arn)
}

fn update(world: &mut World, arn: &str, version: &str, artifact: &str, environment: Value) -> Result<()> {
    world.note(&format!("update to {version}"));
    let mut input = configuration(world, artifact, environment)?;
    input["imageIdentifier"] = arn.into();
    input["clientToken"] = format!("update-{version}").into();
    let made = world.call::<UpdateMicrovmImageInput>(input)?;
    if made["imageVersion"] != format!("{version}.0") {
        bail!("the update made {} instead of {version}.0", made["imageVersion"]);
    }
    Ok(())
}

fn configuration(world: &mut World, artifact: &str, environment: Value) -> Result<Value> {
    let managed = world.call::<ListManagedMicrovmImagesInput>(json!({}))?;
    let on = "ENABLED";
    Ok(json!({
        "codeArtifact": { "uri": format!("s3://artifacts/{artifact}.zip") },
        "baseImageArn": managed["items"][0]["imageArn"],
        "buildRoleArn": "arn:aws:iam::000000000000:role/build",
        "resources": [{ "minimumMemoryInMiB": 512 }],
        "environmentVariables": environment,
        "hooks": {
            "port": 8080,
            "microvmHooks": { "run": on, "resume": on, "suspend": on, "terminate": on },
            "microvmImageHooks": { "ready": on, "validate": on },
        },
    }))
}

fn arn(world: &mut World) -> Result<String> {
    let managed = world.call::<ListManagedMicrovmImagesInput>(json!({}))?;
    let region = managed["items"][0]["imageArn"].as_str().and_then(|arn| arn.split(':').nth(3)).context("no region")?;
    Ok(format!("arn:aws:lambda:{region}:000000000000:microvm-image:{NAME}"))
}

/// A zip file with stored entries.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(*name, options).and_then(|()| Ok(archive.write_all(content)?)).expect("memory takes all");
    }
    archive.finish().expect("memory takes all").into_inner()
}
