//! The guest agent: pid 1 of every microVM.
//!
//! It boots the machine ([`boot`]), opens the control channel ([`port`]) and serves the host's requests over it ([`serve`],
//! [`requests`]): start the application in its container ([`application`], [`container`]), dial its ports, renew the guest
//! after a restore ([`renew`]), run programs beside the application ([`session`]), tell what happened ([`events`]), end
//! the machine ([`machine`]). What the two sides say is the `wire` crate's.
//!
//! One thread, no `panic`, no exit: when the agent ends, so does the machine.

mod application;
mod boot;
mod carry;
mod connections;
mod container;
mod events;
mod freezer;
mod lines;
mod log;
mod machine;
mod memory;
mod names;
mod port;
mod preamble;
mod reaper;
mod renew;
mod requests;
mod serve;
mod session;
mod sys;

use std::{io, process::exit, sync::Arc};

use application::Application;
use events::EventLog;
use freezer::Freezer;
use machine::Machine;
use memory::KernelLog;
use port::Port;
use reaper::Reaper;
use requests::Agent;
use session::Sessions;

/// Threads for the few calls that block (`sync`).
const BLOCKING_THREADS: usize = 2;

fn main() {
    match std::env::args_os().nth(1) {
        Some(verb) if verb == container::VERB => container::supervise(),
        Some(verb) if verb == container::session::VERB => container::session::attend(),
        _ => {}
    }
    if std::process::id() != 1 {
        eprintln!("guest {}: runs as pid 1 of a microVM, nowhere else", env!("CARGO_PKG_VERSION"));
        exit(2);
    }
    std::panic::set_hook(Box::new(|panic| machine::give_up(format_args!("{panic}"))));
    if let Err(error) = boot::boot() {
        machine::give_up(format_args!("{error}"));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(BLOCKING_THREADS).enable_all().build();
    let error = match runtime {
        Ok(runtime) => runtime.block_on(run()).err().unwrap_or_else(|| io::Error::other("the agent ended")),
        Err(error) => error,
    };
    machine::give_up(format_args!("{error}"))
}

/// Serves for ever; returns only with the error that ends the machine.
async fn run() -> io::Result<()> {
    let reaper = Arc::new(Reaper::default());
    let children = reaper::listen()?;
    let events = Arc::new(EventLog::new());
    let kernel_log = KernelLog::open().inspect_err(|error| log::warn(format_args!("no kernel log: {error}"))).ok();
    let application = Arc::new(Application::new(events.clone(), reaper.clone(), kernel_log));
    let machine = Arc::new(Machine::new(application.clone()));
    let agent = Arc::new(Agent {
        sessions: Sessions::new(application.clone(), reaper.clone()),
        application: application.clone(),
        events,
        freezer: Freezer::of_application(),
        machine,
    });
    let serving = async {
        let mut port = tokio::time::timeout(PORT_BOUND, Port::find())
            .await
            .map_err(|_| io::Error::other(format!("no virtio-serial port {} appeared", wire::PORT_NAME)))??;
        log::info(format_args!("agent {} ready", env!("CARGO_PKG_VERSION")));
        Err(serve::serve(&mut port, &agent).await)
    };
    tokio::select! {
        ended = serving => ended,
        () = application.watch_memory() => Err(io::Error::other("nobody watches the memory")),
        () = reaper.run(children) => Err(io::Error::other("no more signals of children")),
    }
}

/// How long the control channel may take to appear after the drivers are loaded.
const PORT_BOUND: std::time::Duration = std::time::Duration::from_secs(30);
