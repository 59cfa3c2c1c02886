//! What a microVM or an image has used: its history through the meters of `lifecycle::usage`.

use api::{AccountId, ImageVersion, MicrovmState};
use lifecycle::{
    Millis,
    microvms::State,
    usage::{ImageChange, ImageMeter, ImageUsage, MicrovmEntry, MicrovmMeter, MicrovmUsage},
};
use serde::Serialize;

use crate::store::{Event, ImageEvent, Scope, Span, Store, StoreError};

/// Rows that are read at a time.
const ROWS: u32 = 500;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Usage {
    /// Of a microVM.
    Microvm(MicrovmUsage),
    /// Of an image.
    Image(ImageUsage),
}

enum Meter {
    Microvm(MicrovmMeter),
    Image(ImageMeter),
}

impl Meter {
    fn add(&mut self, event: &Event) {
        match self {
            Meter::Microvm(meter) => entry(event).into_iter().for_each(|entry| meter.add(entry)),
            Meter::Image(meter) => meter.add(event.at, change(event)),
        }
    }
}

/// What `scope` has used until `now`, and the number of the last row that says so. `None`: it has no history, or is no single
/// thing.
pub async fn of(
    store: &Store,
    account: &AccountId,
    scope: &Scope,
    now: Millis,
) -> Result<Option<(Usage, u64)>, StoreError> {
    let mut meter = match scope {
        Scope::Microvm(_) => Meter::Microvm(MicrovmMeter::default()),
        Scope::Image(_) => Meter::Image(ImageMeter::default()),
        Scope::All => return Ok(None),
    };
    let mut last = 0;
    loop {
        let events = store.events(account, scope, Span::After(last), ROWS).await?;
        events.iter().for_each(|event| meter.add(event));
        last = events.last().map_or(last, |event| event.n);
        if events.len() < ROWS as usize {
            break;
        }
    }
    let usage = match meter {
        Meter::Microvm(meter) => Usage::Microvm(meter.usage(now)),
        Meter::Image(meter) => Usage::Image(meter.usage(now)),
    };
    Ok((last > 0).then_some((usage, last)))
}

/// `None`: a state that this hearth does not know.
fn entry(event: &Event) -> Option<MicrovmEntry> {
    let state = match event.state.parse().ok()? {
        MicrovmState::Pending => State::Pending,
        MicrovmState::Running => State::Running,
        MicrovmState::Suspending => State::Suspending,
        MicrovmState::Suspended => State::Suspended,
        MicrovmState::Terminating => State::Terminating,
        MicrovmState::Terminated => State::Terminated,
    };
    let moved = |wanted| event.snapshot.filter(|_| state == wanted);
    let (written, read) = (moved(State::Suspended), moved(State::Running));
    Some(MicrovmEntry { at: event.at, state, memory_mib: event.memory_mib, written, read })
}

fn change(event: &Event) -> ImageChange {
    let version = event.version.as_deref().and_then(|version| version.parse::<ImageVersion>().ok());
    let version = version.map(ImageVersion::major);
    let is = |wanted: ImageEvent| event.what == wanted.as_str();
    match (version, event.snapshot) {
        (Some(version), Some(snapshot)) if is(ImageEvent::BuildSucceeded) => {
            ImageChange::BuildSucceeded(version, snapshot)
        }
        (Some(version), _) if is(ImageEvent::VersionDeleted) => ImageChange::VersionDeleted(version),
        _ if is(ImageEvent::BuildBegan) => ImageChange::BuildBegan,
        _ if is(ImageEvent::BuildFailed) => ImageChange::BuildFailed,
        _ if is(ImageEvent::Deleted) => ImageChange::Deleted,
        _ => ImageChange::Other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use lifecycle::{microvms::Input, usage::Snapshot};

    use super::*;
    use crate::store::fixture::{MINE, built, microvm, opened, step};

    #[tokio::test]
    async fn rows_are_the_meter() {
        let (_dir, store) = opened().await;
        let (image, version) = built(&store, MINE, "demo").await;
        let mut record = microvm(&image, &version, 1_000);
        store.insert_microvm(&record, None, None).await.unwrap();
        let (whole, saved) = (record.snapshot, Snapshot { memory_bytes: 2_000, disk_bytes: 0 });
        step(&store, &mut record, Input::Started, 1_500, whole).await;
        for turn in 1..=200 {
            let at = turn * 10_000;
            step(&store, &mut record, Input::Idle, at, None).await;
            step(&store, &mut record, Input::Suspended, at + 1_000, Some(saved)).await;
            step(&store, &mut record, Input::Resume, at + 2_000, None).await;
            step(&store, &mut record, Input::Resumed, at + 3_000, Some(saved)).await;
        }
        let account = MINE.parse().unwrap();
        let now = 2_010_000;
        let (usage, last) = of(&store, &account, &Scope::Microvm(record.id), now).await.unwrap().unwrap();
        assert_eq!(last, 3 + 2 + 800, "more than a page");
        let expected = MicrovmUsage {
            pending_ms: 500,
            running_ms: 8_500 + 200 * 7_000,
            suspending_ms: 200 * 1_000,
            suspended_ms: 200 * 2_000,
            running_mib_ms: (8_500 + 200 * 7_000) * 512,
            snapshot_written_bytes: 200 * 2_000,
            snapshot_read_bytes: 730 + 200 * 2_000,
            snapshot_byte_seconds: 200 * 2 * 2_000,
            suspends: 200,
            resumes: 200,
            ..MicrovmUsage::default()
        };
        assert_eq!(usage, Usage::Microvm(expected));
        assert_eq!(of(&store, &account, &Scope::All, now).await.unwrap(), None);
        let others = "444455556666".parse().unwrap();
        assert_eq!(of(&store, &others, &Scope::Microvm(record.id), now).await.unwrap(), None);

        let image = Scope::Image(image.arn);
        let Some((Usage::Image(usage), 3)) = of(&store, &account, &image, 10_100).await.unwrap() else {
            panic!("none")
        };
        assert_eq!((usage.builds, usage.snapshot_bytes, usage.snapshot_byte_seconds), (1, 730, 7_300));
    }
}
