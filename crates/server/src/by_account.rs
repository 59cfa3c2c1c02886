//! Directories whose content belongs to accounts, `<dir>/<account>/...`, and what an older hearth, which had one account,
//! left directly below them.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use api::AccountId;

/// Says that everything else directly below the directory is an account's.
const MARK: &str = ".by-account";
/// What an older hearth left, on its way. Names of accounts are digits, so nothing else has this name.
const MOVING: &str = ".moving";

/// Makes the directory if it is missing, and gives what an older hearth left there to `account`.
///
/// A kill at any moment loses nothing: the next call goes on. Once done, further calls change nothing. Nobody else may use
/// the directory meanwhile.
pub fn settle(dir: &Path, account: &AccountId) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let (mark, moving) = (dir.join(MARK), dir.join(MOVING));
    if !mark.try_exists()? {
        let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        for name in entries.iter().filter(|name| *name != MOVING) {
            fs::create_dir_all(&moving)?;
            fs::rename(dir.join(name), moving.join(name))?;
            crash::point("layout: moved aside");
        }
        File::create_new(&mark)?;
        crash::point("layout: marked");
        File::open(dir)?.sync_all()?;
    }
    if moving.try_exists()? {
        fs::rename(&moving, dir.join(account.as_str()))?;
        crash::point("layout: given to the account");
        File::open(dir)?.sync_all()?;
        tracing::info!(dir = %dir.display(), %account, "what an older hearth left here belongs to this account now");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        "111122223333".parse().expect("account")
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![dir.to_owned()];
        while let Some(each) = left.pop() {
            for entry in fs::read_dir(each).expect("read").flatten() {
                match entry.path() {
                    path if path.is_dir() => left.push(path),
                    path => found.push(path.strip_prefix(dir).expect("below").display().to_string()),
                }
            }
        }
        found.sort();
        found
    }

    fn older() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        // A bucket may be called like an account, even like this one.
        for name in ["demo/a.zip", ".bucket-x.json", "111122223333/b", "999900001111/c"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).and_then(|()| fs::write(path, name)).expect("write");
        }
        dir
    }

    const SETTLED: [&str; 5] = [
        ".by-account",
        "111122223333/.bucket-x.json",
        "111122223333/111122223333/b",
        "111122223333/999900001111/c",
        "111122223333/demo/a.zip",
    ];

    #[test]
    fn what_an_older_hearth_left_goes_to_the_account_once() {
        let dir = older();
        for _ in 0..2 {
            settle(dir.path(), &account()).expect("settled");
            assert_eq!(files(dir.path()), SETTLED);
        }
        settle(dir.path(), &"444455556666".parse().expect("account")).expect("settled");
        assert_eq!(files(dir.path()), SETTLED, "another account gets nothing");
    }

    #[test]
    fn a_kill_on_the_way_loses_nothing() {
        let dir = older();
        fs::create_dir(dir.path().join(MOVING)).expect("mkdir");
        fs::rename(dir.path().join("demo"), dir.path().join(MOVING).join("demo")).expect("half moved");
        settle(dir.path(), &account()).expect("settled");
        assert_eq!(files(dir.path()), SETTLED);

        let dir = older();
        settle(dir.path(), &account()).expect("settled");
        fs::rename(dir.path().join("111122223333"), dir.path().join(MOVING)).expect("killed before the last step");
        settle(dir.path(), &account()).expect("settled");
        assert_eq!(files(dir.path()), SETTLED);
    }

    #[test]
    fn a_new_directory_is_only_marked() {
        let dir = tempfile::tempdir().expect("tempdir");
        settle(&dir.path().join("s3"), &account()).expect("settled");
        assert_eq!(files(dir.path()), ["s3/.by-account"]);
    }
}
