#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt};

use api::ErrorKind;

use super::*;

const NOW: i64 = 1_800_000_000;
const READ: &str = r#"{"Statement":{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"}}"#;
const ALL: &str = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn ci() -> User {
    User::Named("ci".into())
}

async fn load(dir: &Path, first: &str) -> Result<Arc<AccessKeys>, KeysError> {
    let store = Store::open(&dir.join("hearth.db")).await.unwrap();
    AccessKeys::load(store, dir, account(first), "aws").await
}

async fn keys(dir: &Path) -> Arc<AccessKeys> {
    load(dir, "000000000000").await.unwrap()
}

fn file(dir: &Path) -> Credentials {
    Credentials::read(&dir.join("credentials.json")).unwrap().unwrap()
}

#[tokio::test]
async fn root_s_key_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let made = keys(dir.path()).await;
    let credentials = file(dir.path());
    for name in ["credentials.json", "secrets-key.json"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let secret = credentials.secret_access_key.expose();
    assert!(!format!("{made:?}").contains(secret));
    for name in ["hearth.db", "hearth.db-wal"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name} holds the secret");
    }
    let found = made.secret(&credentials.access_key_id).await.unwrap();
    assert_eq!((found.secret.expose(), found.identity.arn()), (secret, "arn:aws:iam::000000000000:root"));
    assert!(made.secret("AKIANOBODY").await.is_none());
    let again = keys(dir.path()).await;
    assert_eq!(again.list().len(), 1);
    assert_eq!(file(dir.path()), credentials);
}

#[tokio::test]
async fn the_key_of_an_older_hearth_is_taken_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let old = Credentials {
        access_key_id: "AKIAOLD".into(),
        secret_access_key: "old-secret".to_owned().into(),
        account: account("000000000000"),
    };
    old.write(&dir.path().join("credentials.json")).unwrap();
    let taken = keys(dir.path()).await;
    assert_eq!(taken.list().len(), 1);
    assert_eq!(taken.secret("AKIAOLD").await.unwrap().secret.expose(), "old-secret");
    assert_eq!(file(dir.path()), old);
    let new = taken.rotate("AKIAOLD", false).await.unwrap();
    taken.delete("AKIAOLD").await.unwrap();
    // What is brought back later does not come to life again.
    old.write(&dir.path().join("credentials.json")).unwrap();
    let later = keys(dir.path()).await;
    assert!(later.secret("AKIAOLD").await.is_none());
    assert_eq!(file(dir.path()).access_key_id, new.key.id);
}

#[tokio::test]
async fn another_first_account_gets_a_root_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let before = keys(dir.path()).await.list()[0].id.clone();
    let other = load(dir.path(), "222222222222").await.unwrap();
    assert_eq!(other.list().len(), 2);
    assert_eq!(file(dir.path()).account, account("222222222222"));
    assert!(other.secret(&before).await.is_some());
    assert!(other.disable(&before).await.is_ok(), "it is not root of the first account");
}

#[tokio::test]
async fn a_lost_or_wrong_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    keys(dir.path()).await;
    let credentials = file(dir.path());
    fs::remove_file(dir.path().join("credentials.json")).unwrap();
    keys(dir.path()).await;
    assert_eq!(file(dir.path()), credentials, "written anew");
    let other = Credentials { secret_access_key: "other".to_owned().into(), ..credentials.clone() };
    other.write(&dir.path().join("credentials.json")).unwrap();
    keys(dir.path()).await;
    assert_eq!(file(dir.path()), credentials, "a secret that is not the key's is mended");
    fs::write(dir.path().join("credentials.json"), "{hunter2").unwrap();
    let error = load(dir.path(), "000000000000").await.unwrap_err().to_string();
    assert!(error.contains("credentials.json is damaged; remove it") && !error.contains("hunter2"), "{error}");
    credentials.write(&dir.path().join("credentials.json")).unwrap();
    fs::remove_file(dir.path().join("secrets-key.json")).unwrap();
    let error = load(dir.path(), "000000000000").await.unwrap_err().to_string();
    assert!(error.contains("secrets-key.json is missing"), "{error}");
    Sealer::load(&dir.path().join("secrets-key.json"), false).unwrap();
    let error = load(dir.path(), "000000000000").await.unwrap_err().to_string();
    assert!(error.contains(&format!("{} in hearth.db cannot be used", credentials.access_key_id)), "{error}");
}

#[tokio::test]
async fn a_policy_is_its_user_s() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path()).await;
    let first = keys.create(account("000000000000"), ci(), Some(READ.into())).await.unwrap();
    let allowed = |keys: &AccessKeys, id: &str, action: &str| {
        keys.find(id).unwrap().identity.authorize(action, "*").map_err(|error| error.kind())
    };
    assert_eq!(allowed(&keys, &first.key.id, "lambda:GetMicrovm"), Ok(()));
    assert_eq!(allowed(&keys, &first.key.id, "lambda:RunMicrovm"), Err(ErrorKind::AccessDenied));
    let second = keys.create(account("000000000000"), ci(), None).await.unwrap();
    assert_eq!(allowed(&keys, &second.key.id, "lambda:GetMicrovm"), Ok(()));
    let other = keys.create(account("000000000000"), ci(), Some(ALL.into())).await.unwrap_err();
    assert!(matches!(other, KeyError::UserExists(_)), "{other}");
    let elsewhere = keys.create(account("222222222222"), ci(), None).await.unwrap();
    keys.set_policy(&second.key.id, ALL.into()).await.unwrap();
    let restarted = load(dir.path(), "000000000000").await.unwrap();
    for keys in [&keys, &restarted] {
        assert_eq!(allowed(keys, &first.key.id, "lambda:RunMicrovm"), Ok(()));
        assert_eq!(allowed(keys, &elsewhere.key.id, "lambda:GetMicrovm"), Err(ErrorKind::AccessDenied));
    }
    let root = keys.create(account("000000000000"), User::Root, Some(READ.into())).await.unwrap_err();
    assert!(matches!(root, KeyError::RootPolicy), "{root}");
    let root = keys.set_policy(&file(dir.path()).access_key_id, READ.into()).await.unwrap_err();
    assert!(matches!(root, KeyError::RootPolicy), "{root}");
    let wrong = keys.set_policy(&first.key.id, "{}".into()).await.unwrap_err();
    assert!(matches!(wrong, KeyError::Policy(_)), "{wrong}");
}

#[tokio::test]
async fn nobody_locks_themself_out() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path()).await;
    let root = file(dir.path()).access_key_id;
    let inactive = keys.create(account("000000000000"), User::Root, None).await.unwrap().key.id.clone();
    keys.disable(&inactive).await.unwrap();
    keys.create(account("222222222222"), User::Root, None).await.unwrap();
    for outcome in [keys.disable(&root).await.map(drop), keys.delete(&root).await] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, KeyError::LastRoot(..)), "{error}");
    }
    keys.enable(&inactive).await.unwrap();
    keys.disable(&root).await.unwrap();
    assert_eq!(file(dir.path()).access_key_id, inactive, "the file's key may be used");
    assert!(keys.secret(&root).await.is_none());
    keys.delete(&root).await.unwrap();
    assert!(matches!(keys.delete(&root).await, Err(KeyError::NotFound(_))));
}

#[tokio::test]
async fn rotation_keeps_user_and_policy_and_the_file_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path()).await;
    let old = keys.create(account("222222222222"), ci(), Some(READ.into())).await.unwrap().key;
    let new = keys.rotate(&old.id, false).await.unwrap().key;
    assert_eq!((new.identity.arn(), new.policy.as_deref()), ("arn:aws:iam::222222222222:user/ci", Some(READ)));
    assert!(keys.secret(&old.id).await.is_none() && keys.secret(&new.id).await.is_some());
    let root = file(dir.path()).access_key_id;
    let kept = keys.rotate(&root, true).await.unwrap();
    assert_eq!(file(dir.path()).secret_access_key, kept.secret);
    assert!(keys.secret(&root).await.is_some());
    keys.rotate(&kept.key.id, false).await.unwrap();
    let now = file(dir.path()).access_key_id;
    assert!(now != kept.key.id && keys.secret(&now).await.is_some() && keys.secret(&kept.key.id).await.is_none());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path()).await;
    let root = file(dir.path()).access_key_id;
    fs::remove_file(dir.path().join("credentials.json")).unwrap();
    fs::create_dir(dir.path().join("credentials.json")).unwrap();
    let error = keys.rotate(&root, false).await.unwrap_err();
    assert!(matches!(error, KeyError::Inside(KeysError::Credentials(_))), "{error}");
    assert_eq!(keys.list().len(), 1);
    assert!(keys.secret(&root).await.is_some());
    assert_eq!(keys.store.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn sessions_live_as_long_as_their_key_and_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(dir.path()).await;
    let key = keys.create(account("222222222222"), ci(), None).await.unwrap().key;
    let session = keys.issue(&key.id, NOW + 900).unwrap();
    assert!(session.access_key_id.starts_with("ASIA") && session.access_key_id.len() == 20);
    assert!(!format!("{session:?}").contains(session.secret.expose()));
    let token = session.token.expose().clone();
    let open = |id: String, token: String, now| {
        let keys = keys.clone();
        async move { keys.temporary(&id, &token, now).await.map(|found| (found.secret, found.temporary)) }
    };
    let id = session.access_key_id.clone();
    assert_eq!(open(id.clone(), token.clone(), NOW).await, Ok((session.secret.clone(), true)));
    assert_eq!(open(id.clone(), token.clone(), NOW + 900).await, Err(SignatureError::Expired));
    let other = keys.issue(&key.id, NOW + 900).unwrap();
    for (id, token) in [
        (other.access_key_id.clone(), token.clone()),
        (key.id.clone(), token.clone()),
        (id.clone(), other.token.expose().clone()),
        (id.clone(), String::new()),
        (id.clone(), "not base64 !".into()),
        (id.clone(), "A".repeat(5000)),
        (id.clone(), format!("{}A{}", &token[..50], &token[51..])),
    ] {
        let fits = token == *session.token.expose() && id == session.access_key_id;
        assert!(fits || open(id, token, NOW).await == Err(SignatureError::UnknownKey));
    }
    assert!(keys.secret(&id).await.is_none(), "no temporary key without its token");
    // The policies are those of the moment.
    let identity = || async { keys.temporary(&id, &token, NOW).await.unwrap().identity };
    assert!(identity().await.authorize("lambda:GetMicrovm", "*").is_err());
    keys.set_policy(&key.id, READ.into()).await.unwrap();
    assert!(identity().await.authorize("lambda:GetMicrovm", "*").is_ok());
    keys.disable(&key.id).await.unwrap();
    assert_eq!(open(id.clone(), token.clone(), NOW).await, Err(SignatureError::UnknownKey));
    assert!(keys.issue(&key.id, NOW + 900).is_none());
    keys.enable(&key.id).await.unwrap();
    assert!(open(id.clone(), token.clone(), NOW).await.is_ok());
    keys.delete(&key.id).await.unwrap();
    assert_eq!(open(id, token, NOW).await, Err(SignatureError::UnknownKey));
}
