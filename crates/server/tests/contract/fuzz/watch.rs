//! What the server says while it is fuzzed: panics, and the errors of its log.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
pub struct Watch {
    log: Arc<Mutex<Vec<u8>>>,
    panics: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    /// From now on, for the whole process.
    pub fn start() -> Self {
        let watch = Watch::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(watch.clone());
        // Another test of this process may have been first; then its log is not ours to read.
        let _ = subscriber.with_ansi(false).without_time().try_init();
        let (panics, before) = (watch.panics.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            panics.lock().unwrap().push(panic.to_string());
            before(panic);
        }));
        watch
    }

    pub fn panics(&self) -> Vec<String> {
        self.panics.lock().unwrap().clone()
    }

    /// The lines of the log, ids left out, each with its number.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let log = self.log.lock().unwrap();
        let mut lines = BTreeMap::new();
        for line in String::from_utf8_lossy(&log).lines() {
            let words = line.split(' ').filter(|word| !word.contains("microvm-") && !word.contains("request_id"));
            let line = words.collect::<Vec<_>>().join(" ");
            *lines.entry(line.chars().take(200).collect()).or_default() += 1;
        }
        lines
    }
}

impl io::Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.log.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Watch {
    type Writer = Watch;

    fn make_writer(&'a self) -> Watch {
        self.clone()
    }
}
