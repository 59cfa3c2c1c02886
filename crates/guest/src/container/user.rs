//! USER of an image, resolved as Docker does it: against the container's own `/etc/passwd` and `/etc/group`.

/// Who the application runs as.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, in the order of `/etc/group`.
    pub groups: Vec<u32>,
    /// Home directory; `/` where nothing says otherwise.
    pub home: String,
}

/// USER names nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that `/etc/passwd` does not have.
    #[error("user {0:?} is neither in the image's /etc/passwd nor a number up to 2147483647")]
    User(String),
    /// A name that `/etc/group` does not have.
    #[error("group {0:?} is neither in the image's /etc/group nor a number up to 2147483647")]
    Group(String),
}

/// Resolves `user` (`""`, `name`, `uid`, `name:group`, `uid:gid` and their mixes) against the two files' texts. Malformed
/// lines are skipped. An explicit group excludes supplementary ones, as in Docker.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Account, UserError> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let found = passwd.lines().filter_map(parse_passwd).find(|entry| {
        if user.is_empty() { entry.uid == 0 } else { entry.name == user || entry.uid.to_string() == user }
    });
    let uid = match &found {
        Some(entry) => entry.uid,
        None if user.is_empty() => 0,
        None => number(user).ok_or_else(|| UserError::User(user.to_owned()))?,
    };
    let home = found.as_ref().map_or("", |entry| entry.home);
    let mut account = Account {
        uid,
        gid: found.as_ref().map_or(0, |entry| entry.gid),
        groups: Vec::new(),
        home: if home.is_empty() { "/".to_owned() } else { home.to_owned() },
    };
    let mut groups = group.lines().filter_map(parse_group);
    if !wanted_group.is_empty() {
        let entry = groups.find(|entry| entry.name == wanted_group || entry.gid.to_string() == wanted_group);
        let gid = entry.map(|entry| entry.gid).or_else(|| number(wanted_group));
        account.gid = gid.ok_or_else(|| UserError::Group(wanted_group.to_owned()))?;
    } else if let Some(found) = &found {
        account.groups = groups
            .filter(|entry| entry.members.split(',').any(|member| member == found.name))
            .map(|entry| entry.gid)
            .collect();
    }
    Ok(account)
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn parse_passwd(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
    Some(Passwd { name, uid, gid, home: fields.nth(1).unwrap_or("") })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    Some(Group { name, gid: number(fields.nth(1)?)?, members: fields.next().unwrap_or("") })
}

/// An id in digits only, within Docker's bound of 2^31 - 1.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id: &u32| digits && id <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# note\nbad line\napp:x:1000:1001:App:/home/app:/bin/sh\n\
                          1234:x:55:55::/odd:\nnohome:x:7:7::\n";
    const GROUP: &str = "root:x:0:root\napp:x:1001:\nvideo:x:44:root,app\naudio:x:29:app\nbroken\n";

    fn account(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Account, UserError> {
        Ok(Account { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
    }

    #[test]
    fn names_numbers_and_nothing() {
        assert_eq!(resolve("", PASSWD, GROUP), account(0, 0, &[0, 44], "/root"));
        assert_eq!(resolve("app", PASSWD, GROUP), account(1000, 1001, &[44, 29], "/home/app"));
        assert_eq!(resolve("1000", PASSWD, GROUP), account(1000, 1001, &[44, 29], "/home/app"));
        assert_eq!(resolve("4321", PASSWD, GROUP), account(4321, 0, &[], "/"));
        assert_eq!(resolve("1234", PASSWD, GROUP), account(55, 55, &[], "/odd"));
        assert_eq!(resolve("nohome", PASSWD, GROUP), account(7, 7, &[], "/"));
    }

    #[test]
    fn an_explicit_group_replaces_the_others() {
        assert_eq!(resolve("app:video", PASSWD, GROUP), account(1000, 44, &[], "/home/app"));
        assert_eq!(resolve("app:99", PASSWD, GROUP), account(1000, 99, &[], "/home/app"));
        assert_eq!(resolve("5:6", PASSWD, GROUP), account(5, 6, &[], "/"));
        assert_eq!(resolve(":audio", PASSWD, GROUP), account(0, 29, &[], "/root"));
    }

    #[test]
    fn without_the_files_numbers_still_work() {
        assert_eq!(resolve("", "", ""), account(0, 0, &[], "/"));
        assert_eq!(resolve("12:34", "", ""), account(12, 34, &[], "/"));
    }

    #[test]
    fn who_is_not_there_is_an_error() {
        assert_eq!(resolve("ghost", PASSWD, GROUP), Err(UserError::User("ghost".to_owned())));
        assert_eq!(resolve("app:ghost", PASSWD, GROUP), Err(UserError::Group("ghost".to_owned())));
        assert_eq!(resolve("-1", PASSWD, GROUP), Err(UserError::User("-1".to_owned())));
        assert_eq!(resolve("+5", PASSWD, GROUP), Err(UserError::User("+5".to_owned())));
        assert_eq!(resolve("4294967295", PASSWD, GROUP), Err(UserError::User("4294967295".to_owned())));
    }
}
