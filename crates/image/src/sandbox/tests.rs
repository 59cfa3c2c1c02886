//! These need root and a kernel with overlayfs; the host's own root serves as the builder root. Elsewhere they pass unseen.

use std::{sync::Arc, thread};

use super::*;

fn in_sandbox<T>(test: impl FnOnce(&Sandbox<'_>, &Arc<Switch>) -> T) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (work, cache) = (dir.path().join("work"), dir.path().join("cache"));
    fs::create_dir(&work).expect("creates");
    let settings = BuildahSettings::new("/".into(), "/nonexistent".into(), cache);
    let switch = Arc::new(Switch::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    let sandbox = Sandbox::new(&settings, &work, &switch, deadline).expect("is laid out");
    Some(test(&sandbox, &switch))
}

fn sh(script: &str) -> Command {
    Command { argv: ["/bin/sh", "-c", script].map(str::to_owned).into(), ..Command::default() }
}

fn lines(sandbox: &Sandbox<'_>, script: &str) -> (How, Vec<String>) {
    let mut seen = Vec::new();
    let ended = sandbox.run(&sh(script), &mut |line| seen.push(line.to_owned())).expect("runs");
    (ended.how, seen)
}

#[test]
fn a_command_is_root_of_nothing_but_its_own() {
    in_sandbox(|sandbox, _| {
        let (how, seen) = lines(sandbox, "id -u; echo $$; cat /proc/self/uid_map; hostname x; exit 3");
        assert_eq!(how, How::Failed(Some(3)));
        let map: Vec<&str> = seen[2].split_whitespace().collect();
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("0", "1"));
        assert_eq!(map, ["0", &FIRST_ID.to_string(), &IDS.to_string()]);
        // Writes go to the scratch directory and /build/out, not to the builder root, the context or the kernel.
        let script = "for f in /etc/x /build/context/x /build/conf/x /proc/sys/kernel/core_pattern; do
            (echo 1 >$f) 2>/dev/null && echo wrote $f; done; echo 1 >/build/out/x && echo 1 >/var/tmp/x && echo out";
        assert_eq!(lines(sandbox, script).1, ["out"]);
        assert_eq!(sandbox.result("x", 10).expect("is there"), "1\n");
        assert_eq!(
            lines(sandbox, "ls /proc | grep -c '^[0-9]'; mknod /tmp/d c 1 3 2>&1 | grep -c permitted").0,
            How::Success
        );
    });
}

#[test]
fn a_result_that_is_a_link_is_not_followed() {
    in_sandbox(|sandbox, _| {
        lines(sandbox, "ln -s /etc/passwd /build/out/link; mkfifo /build/out/pipe");
        assert!(sandbox.result("link", 10).is_err());
        assert_eq!(sandbox.result("pipe", 10).unwrap_or_default(), "");
    });
}

#[test]
fn a_limit_ends_everything_in_it() {
    in_sandbox(|sandbox, _| {
        let began = Instant::now();
        let command = Command { limit: Some(Duration::from_millis(300)), ..sh("sleep 61 & echo up; setsid sleep 62") };
        let ended = sandbox.run(&command, &mut |_| {}).expect("runs");
        assert_eq!((ended.how, ended.tail), (How::OverLimit, vec!["up".to_owned()]));
        assert!(began.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_switch_ends_it_from_another_thread() {
    in_sandbox(|sandbox, switch| {
        let mut other = None;
        let ended = sandbox.run(&sh("echo up; sleep 63"), &mut |_| {
            let switch = Arc::clone(switch);
            other = Some(thread::spawn(move || switch.turn_off()));
        });
        assert_eq!(ended.expect_err("cancelled").message, "the build was cancelled");
        other.expect("a line came").join().expect("ends");
        sandbox.run(&sh("true"), &mut |_| {}).expect_err("nothing more starts");
    });
}

#[test]
fn a_program_that_is_not_there_is_named() {
    in_sandbox(|sandbox, _| {
        let command = Command { argv: vec!["/no/such/program".to_owned()], ..Command::default() };
        let error = sandbox.run(&command, &mut |_| {}).expect_err("cannot start");
        assert!(error.message.contains("run /no/such/program: No such file"), "{error}");
    });
}
