//! What the fake guest shall do, read from the container's environment and arguments.

use std::{collections::HashMap, time::Duration};

use wire::Container;

/// Every name that steers the fake starts with it.
const PREFIX: &str = "HEARTH_FAKE_";

/// The lifecycle hooks an application can be called on (spec 5.5).
const HOOKS: [&str; 6] = ["ready", "validate", "run", "suspend", "resume", "terminate"];

/// How a hook call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// With this HTTP status.
    Status(u16),
    /// Not at all; the connection stays open.
    Never,
    /// By closing the connection.
    Close,
}

/// The table in [`super`], parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Script {
    hooks: HashMap<&'static str, Vec<Answer>>,
    pub(super) hook_delay: Duration,
    pub(super) delay: Duration,
    pub(super) app_status: Option<u16>,
    pub(super) listen_after: Duration,
    closed: Vec<(u16, u16)>,
    host: Vec<(u16, u16)>,
    pub(super) exit_after: Option<Duration>,
    pub(super) exit_code: i32,
    pub(super) crash_after: Option<Duration>,
    pub(super) start_error: Option<String>,
    pub(super) quiesce_error: Option<String>,
    pub(super) renew_error: Option<String>,
    pub(super) save_error: Option<String>,
    pub(super) restore_error: Option<String>,
}

impl Script {
    /// Reads the script; an argument `NAME=VALUE` wins over the environment. A name or value that is not in the table is
    /// an error, so that a mistyped one does not pass for a success.
    pub(super) fn of(container: &Container) -> Result<Self, String> {
        let mut script = Script::default();
        if let Some(code) = exit_code_of(&container.argv) {
            script.exit_after = Some(Duration::ZERO);
            script.exit_code = code;
        }
        let arguments = container.argv.iter().filter_map(|argument| argument.split_once('='));
        let environment = container.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in environment.chain(arguments) {
            if let Some(rest) = name.strip_prefix(PREFIX) {
                script.set(rest, value).map_err(|problem| format!("{name}: {problem}"))?;
            }
        }
        Ok(script)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(hook) = name.strip_suffix("_STATUS").filter(|hook| *hook != "APP") {
            let hook = HOOKS.into_iter().find(|known| known.eq_ignore_ascii_case(hook)).ok_or("no such hook")?;
            let answers = value.split(',').map(answer).collect::<Result<_, _>>()?;
            self.hooks.insert(hook, answers);
            return Ok(());
        }
        match name {
            "APP_STATUS" => self.app_status = Some(status(value)?),
            "DELAY_MS" => self.delay = millis(value)?,
            "HOOK_DELAY_MS" => self.hook_delay = millis(value)?,
            "LISTEN_AFTER_MS" => self.listen_after = millis(value)?,
            "CLOSED_PORTS" => self.closed = ports(value)?,
            "HOST_PORTS" => self.host = ports(value)?,
            "EXIT_AFTER_MS" => self.exit_after = Some(millis(value)?),
            "EXIT_CODE" => self.exit_code = value.parse().map_err(|_| "not an exit code")?,
            "CRASH_AFTER_MS" => self.crash_after = Some(millis(value)?),
            "START_ERROR" => self.start_error = Some(value.to_owned()),
            "QUIESCE_ERROR" => self.quiesce_error = Some(value.to_owned()),
            "RENEW_ERROR" => self.renew_error = Some(value.to_owned()),
            "SAVE_ERROR" => self.save_error = Some(value.to_owned()),
            "RESTORE_ERROR" => self.restore_error = Some(value.to_owned()),
            _ => {
                return Err(
                    "the fake engine does not know it; the table is in the documentation of engine::fake".into()
                );
            }
        }
        Ok(())
    }

    /// The answer to a hook's call number `call`, from 0; the last one stands for all further calls.
    pub(super) fn hook(&self, hook: &str, call: u64) -> Answer {
        let answers = self.hooks.get(hook).map_or(&[][..], Vec::as_slice);
        let call = usize::try_from(call).unwrap_or(usize::MAX);
        answers.get(call).or(answers.last()).copied().unwrap_or(Answer::Status(200))
    }

    /// Does nothing ever listen on the port?
    pub(super) fn is_closed(&self, port: u16) -> bool {
        port == 0 || among(&self.closed, port)
    }

    /// Is the port the host's own?
    pub(super) fn is_of_host(&self, port: u16) -> bool {
        among(&self.host, port)
    }
}

fn among(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
}

/// The known name of a hook, when `name` is one.
pub(super) fn hook(name: &str) -> Option<&'static str> {
    HOOKS.into_iter().find(|known| *known == name)
}

/// Programs that the fake recognises because they do nothing but end: `true`, `false`, and a shell's `exit N`.
fn exit_code_of(argv: &[String]) -> Option<i32> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words[..] {
        [program] if matches!(program.rsplit('/').next(), Some("true")) => Some(0),
        [program] if matches!(program.rsplit('/').next(), Some("false")) => Some(1),
        [_, "-c", line] => line.trim().strip_prefix("exit ")?.trim().parse().ok(),
        _ => None,
    }
}

fn answer(word: &str) -> Result<Answer, String> {
    match word.trim() {
        "never" => Ok(Answer::Never),
        "close" => Ok(Answer::Close),
        other => status(other).map(Answer::Status),
    }
}

fn status(word: &str) -> Result<u16, String> {
    let status = word.parse().ok().filter(|status| (200..=599).contains(status));
    status.ok_or_else(|| format!("{word:?} is not an HTTP status from 200 to 599, \"never\" or \"close\""))
}

fn millis(word: &str) -> Result<Duration, String> {
    word.parse().map(Duration::from_millis).map_err(|_| format!("{word:?} is not a number of milliseconds"))
}

/// `all`, or ports and ranges such as `22,8000-8010`.
fn ports(list: &str) -> Result<Vec<(u16, u16)>, String> {
    if list == "all" {
        return Ok(vec![(1, u16::MAX)]);
    }
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let range = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (range.0 > 0 && range.0 <= range.1).then_some(range)
    };
    list.split(',')
        .map(|word| range(word).ok_or_else(|| format!("{word:?} is not a port or a range of ports")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(argv: &[&str], env: &[(&str, &str)]) -> Container {
        Container {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            workdir: "/".into(),
            user: String::new(),
            all_capabilities: false,
            hostname: "fake".into(),
        }
    }

    #[test]
    fn hooks_answer_in_turn_and_the_last_answer_stays() {
        let script =
            Script::of(&container(&["app"], &[("HEARTH_FAKE_READY_STATUS", "503, never,200")])).expect("parses");
        let answers: Vec<_> = (0..5).map(|call| script.hook("ready", call)).collect();
        let ok = Answer::Status(200);
        assert_eq!(answers, [Answer::Status(503), Answer::Never, ok, ok, ok]);
        assert_eq!(script.hook("run", 0), ok);
    }

    #[test]
    fn an_argument_wins_over_the_environment() {
        let container =
            container(&["app", "HEARTH_FAKE_EXIT_CODE=3"], &[("HEARTH_FAKE_EXIT_CODE", "2"), ("PATH", "/bin")]);
        assert_eq!(Script::of(&container).expect("parses").exit_code, 3);
    }

    #[test]
    fn ports_can_be_listed_ranged_and_all() {
        let closed = |list| Script::of(&container(&["app"], &[("HEARTH_FAKE_CLOSED_PORTS", list)])).expect("parses");
        let script = closed("22, 8000-8010");
        assert!(script.is_closed(22) && script.is_closed(8000) && script.is_closed(8010));
        assert!(!script.is_closed(8011) && script.is_closed(0));
        assert!(closed("all").is_closed(65535));
    }

    #[test]
    fn ports_of_the_host_are_chosen() {
        let script = Script::of(&container(&["app", "HEARTH_FAKE_HOST_PORTS=9000-9001"], &[])).expect("parses");
        assert!(script.is_of_host(9000) && script.is_of_host(9001));
        assert!(!script.is_of_host(9002) && !script.is_closed(9000));
    }

    #[test]
    fn what_is_not_in_the_table_is_named() {
        let wrong = [
            ("HEARTH_FAKE_REDY_STATUS", "200"),
            ("HEARTH_FAKE_READY_STATUS", "2000"),
            ("HEARTH_FAKE_DELAY_MS", "-1"),
            ("HEARTH_FAKE_CLOSED_PORTS", "9-8"),
            ("HEARTH_FAKE_CLOSED_PORTS", ""),
            ("HEARTH_FAKE_COLOUR", "red"),
        ];
        for (name, value) in wrong {
            let problem = Script::of(&container(&["app"], &[(name, value)])).expect_err(name);
            assert!(problem.starts_with(name), "{problem}");
        }
    }

    #[test]
    fn programs_that_only_end_are_recognised() {
        for (argv, code) in [(&["/bin/false"][..], 1), (&["true"], 0), (&["/bin/sh", "-c", "exit 7"], 7)] {
            let script = Script::of(&container(argv, &[])).expect("parses");
            assert_eq!((script.exit_after, script.exit_code), (Some(Duration::ZERO), code));
        }
        assert_eq!(Script::of(&container(&["python3", "app.py"], &[])), Ok(Script::default()));
    }
}
