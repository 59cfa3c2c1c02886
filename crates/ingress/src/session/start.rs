//! The first message of a program: JSON that names it.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use wire::{Job, Session, TerminalSize};

use super::{Client, START_WITHIN};

/// See docs/guide/shell.md, which users read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    argv: Option<Vec<String>>,
    get: Option<Get>,
    put: Option<Put>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<String>,
    terminal: Option<Size>,
    #[serde(default)]
    timeout_ms: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    path: String,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    cols: u16,
    rows: u16,
}

/// A shell on a terminal without a size (spec 8).
pub(super) fn shell() -> Session {
    Session {
        job: Job::Shell,
        user: None,
        workdir: None,
        env: Vec::new(),
        terminal: Some(TerminalSize::default()),
        timeout_ms: 0,
    }
}

/// Waits for the message. The error is the text for the client.
pub(super) async fn program(client: &mut Client) -> Result<Session, String> {
    let first = async {
        loop {
            match client.next().await {
                Some(Ok(Message::Text(text))) => return read(text.as_str()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) => return Err("the first message must be text: JSON that names the program".to_owned()),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the client has left".to_owned()),
            }
        }
    };
    let late = || Err(format!("no program was named within {} s", START_WITHIN.as_secs()));
    timeout(START_WITHIN, first).await.unwrap_or_else(|_| late())
}

fn read(text: &str) -> Result<Session, String> {
    let start: Start = serde_json::from_str(text).map_err(|error| format!("the first message: {error}"))?;
    let job = match (start.argv, start.get, start.put) {
        (Some(argv), None, None) if !argv.is_empty() => Job::Exec(argv),
        (None, Some(Get { path }), None) if path.starts_with('/') => Job::Get(path),
        (None, None, Some(Put { path, name })) if path.starts_with('/') => Job::Put { path, name },
        _ => {
            let wanted = "one of argv with a program, get and put with an absolute path";
            return Err(format!("the first message must have {wanted}"));
        }
    };
    let of_a_program =
        start.user.is_some() || start.workdir.is_some() || start.terminal.is_some() || !start.env.is_empty();
    if of_a_program && !matches!(job, Job::Exec(_)) {
        return Err(
            "the first message: user, workdir, env and terminal are a program's, not those of get and put".to_owned()
        );
    }
    if let Some(name) = start.env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(format!("the first message: {name:?} is no name of an environment variable"));
    }
    Ok(Session {
        job,
        user: start.user,
        workdir: start.workdir,
        env: start.env.into_iter().collect(),
        terminal: start.terminal.map(|Size { cols, rows }| TerminalSize { cols, rows }),
        timeout_ms: start.timeout_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named() {
        let session = read(r#"{"argv":["ls","-l"],"env":{"A":"1"},"terminal":{"cols":80,"rows":24},"timeout_ms":5}"#);
        let session = session.expect("reads");
        assert_eq!(session.job, Job::Exec(vec!["ls".into(), "-l".into()]));
        assert_eq!(session.env, [("A".to_owned(), "1".to_owned())]);
        assert_eq!((session.terminal, session.timeout_ms), (Some(TerminalSize { cols: 80, rows: 24 }), 5));
        assert_eq!((session.user, session.workdir), (None, None));
        let put = Job::Put { path: "/a".into(), name: Some("b".into()) };
        assert_eq!(read(r#"{"put":{"path":"/a","name":"b"}}"#).expect("reads").job, put);
        assert_eq!(read(r#"{"get":{"path":"/a"}}"#).expect("reads").job, Job::Get("/a".into()));
    }

    #[test]
    fn what_names_none_is_refused() {
        for (text, said) in [
            ("", "EOF"),
            ("{}", "one of argv"),
            (r#"{"argv":[]}"#, "one of argv"),
            (r#"{"argv":["a"],"get":{"path":"/"}}"#, "one of argv"),
            (r#"{"get":{"path":"a"}}"#, "absolute"),
            (r#"{"put":{"name":"a"}}"#, "missing field"),
            (r#"{"argv":["a"],"env":{"":"1"}}"#, "no name"),
            (r#"{"argv":["a"],"env":{"a=b":"1"}}"#, "no name"),
            (r#"{"argv":["a"],"usr":"x"}"#, "unknown field"),
            (r#"{"get":{"path":"/"},"user":"app"}"#, "a program's"),
            (r#"{"get":{"path":"/"},"workdir":"/"}"#, "a program's"),
            (r#"{"get":{"path":"/"},"env":{"A":"1"}}"#, "a program's"),
            (r#"{"put":{"path":"/"},"terminal":{"cols":1,"rows":1}}"#, "a program's"),
        ] {
            let error = read(text).expect_err("refused");
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
