//! Crash points: named places between two effects where `cargo xtask crash` kills the server.
//!
//! They are in every build, so that what is tested is what is shipped. Without the two variables below a point is one load.
//!
//! | variable | value | effect |
//! |---|---|---|
//! | `HEARTH_CRASH_TRACE` | a file | each point that is passed is a line at its end: its name |
//! | `HEARTH_CRASH_AT` | `<name>#<k>` | SIGKILL to this process when it passes that point for the k-th time, from 1 |
//! | | `<k>` | the same at the k-th point of any name |

use std::{
    collections::HashMap,
    env,
    fs::{File, OpenOptions},
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use rustix::process::{Signal, getpid, kill_process};

/// A place between two effects; `name` is the verb, a colon, and what has just been done.
#[inline]
pub fn point(name: &'static str) {
    if let Some(plan) = &*PLAN {
        plan.pass(name);
    }
}

static PLAN: LazyLock<Option<Plan>> = LazyLock::new(Plan::of_environment);

/// What the harness wants.
struct Plan {
    at: Option<At>,
    trace: Option<File>,
    passed: Mutex<Passed>,
}

/// Where to end.
#[derive(Debug, PartialEq, Eq)]
enum At {
    Any(u64),
    Named(String, u64),
}

#[derive(Default)]
struct Passed {
    all: u64,
    of: HashMap<&'static str, u64>,
}

impl Plan {
    fn of_environment() -> Option<Plan> {
        let at = env::var("HEARTH_CRASH_AT").ok().and_then(|text| At::parse(&text));
        let trace = env::var_os("HEARTH_CRASH_TRACE")
            .and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
        (at.is_some() || trace.is_some()).then(|| Plan { at, trace, passed: Mutex::default() })
    }

    fn pass(&self, name: &'static str) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut trace) = self.trace.as_ref() {
            // One write, so that lines of several threads do not mix; the harness sees what is missing.
            let _ = trace.write_all(format!("{name}\n").as_bytes());
        }
        if passed.reaches(name, self.at.as_ref()) {
            // Returns only if the signal were blocked, which SIGKILL cannot be.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}

impl Passed {
    /// Counts; is this the one?
    fn reaches(&mut self, name: &'static str, at: Option<&At>) -> bool {
        self.all += 1;
        let of = self.of.entry(name).or_default();
        *of += 1;
        match at {
            Some(At::Any(wanted)) => self.all == *wanted,
            Some(At::Named(wanted, k)) => wanted == name && of == k,
            None => false,
        }
    }
}

impl At {
    fn parse(text: &str) -> Option<At> {
        match text.rsplit_once('#') {
            Some((name, k)) => Some(At::Named(name.to_owned(), k.parse().ok()?)),
            None => Some(At::Any(text.parse().ok()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_point_is_met_once() {
        let names = ["a: x", "b: y", "a: x", "a: x", "b: y"];
        let met = |at: &str| {
            let (at, mut passed) = (At::parse(at), Passed::default());
            names.map(|name| passed.reaches(name, at.as_ref()))
        };
        assert_eq!(met("a: x#2"), [false, false, true, false, false]);
        assert_eq!(met("5"), [false, false, false, false, true]);
        assert_eq!(met("c: z#1"), [false; 5]);
        assert_eq!(met(""), [false; 5]);
    }

    #[test]
    fn nonsense_is_no_place() {
        for text in ["", "a", "a#", "a#b", "#", "-1"] {
            assert_eq!(At::parse(text), None, "{text}");
        }
        assert_eq!(At::parse("3"), Some(At::Any(3)));
    }
}
