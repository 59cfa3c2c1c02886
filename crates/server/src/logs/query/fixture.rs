//! Groups and streams for the tests of this directory.

use std::sync::Arc;

use api::{AccountId, Region, logs::GroupRef};

use super::{Logs, Query};

/// A group.
pub(super) const GROUP: &str = "/aws/lambda-microvms/hello";

pub(super) struct Fixture {
    logs: Arc<Logs>,
    region: Region,
    account: AccountId,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        Fixture {
            logs: Logs::new(dir.path().to_owned(), vec![7; 32], 1 << 30).expect("logs"),
            region: "us-east-1".parse().expect("region"),
            account: "111122223333".parse().expect("account"),
            _dir: dir,
        }
    }

    /// Appends `(time, text)` to a stream, which is made when it is missing.
    pub(super) fn write(&self, group: &str, stream: &str, lines: &[(i64, &str)]) {
        let stream = self.logs.stream(&self.account, group, stream).expect("stream");
        for (t, text) in lines {
            stream.append(*t, text).expect("append");
        }
    }

    pub(super) fn query(&self) -> Query {
        Query { logs: Arc::clone(&self.logs), region: self.region.clone(), account: self.account.clone() }
    }
}

pub(super) fn group(name: &str) -> GroupRef {
    GroupRef { log_group_name: Some(name.to_owned()), log_group_identifier: None }
}
