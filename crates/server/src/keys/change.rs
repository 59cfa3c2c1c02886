//! Changes of the keys, one at a time: the store first, then the copy in memory, which cannot fail.

use std::sync::Arc;

use api::{AccountId, Sensitive};
use iam::{Policy, PolicyError};

use super::{AccessKeys, Key, KeysError, MAX_KEYS, Secret};
use crate::{
    edge::{Identity, User},
    store::StoreError,
};

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("there is no access key {0}")]
    NotFound(String),
    /// The document is not used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Root has no policy.
    #[error("root may do everything in its account and takes no policy; make a user for fewer rights")]
    RootPolicy,
    /// The user exists, with its policy.
    #[error("user {0} has keys already, and the policy is the user's; change it with: hearth keys policy <ID> <FILE>")]
    UserExists(User),
    /// Nobody could manage keys any more.
    #[error("{0} is the last usable root key of account {1}; make another first: hearth keys rotate {0}")]
    LastRoot(String, AccountId),
    /// No room.
    #[error("there are {MAX_KEYS} access keys, the most that this server takes; delete some")]
    Full,
    /// The store or a file; the cause is for the log.
    #[error(transparent)]
    Inside(#[from] KeysError),
}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        KeyError::Inside(error.into())
    }
}

/// A key that was just made: the only time that its secret is shown.
#[derive(Debug)]
pub struct NewKey {
    /// The key.
    pub key: Arc<Key>,
    /// Its secret.
    pub secret: Sensitive<String>,
}

impl From<Arc<Key>> for NewKey {
    fn from(key: Arc<Key>) -> Self {
        NewKey { secret: key.secret.clone(), key }
    }
}

impl AccessKeys {
    /// Makes a key. A user is made with its first key, and its further keys have the same policy.
    pub async fn create(&self, account: AccountId, user: User, policy: Option<String>) -> Result<NewKey, KeyError> {
        let _writer = self.writer.lock().await;
        if let Some(text) = &policy {
            Policy::parse(text)?;
        }
        let before = self.list().into_iter().find(|key| is_of(key, &account, &user));
        let policy = match (policy, before) {
            (Some(_), _) if user == User::Root => return Err(KeyError::RootPolicy),
            (Some(policy), Some(before)) if before.policy.as_ref() != Some(&policy) => {
                return Err(KeyError::UserExists(user));
            }
            (policy, before) => policy.or_else(|| before.and_then(|before| before.policy.clone())),
        };
        self.room()?;
        Ok(self.add(Secret::generate("AKIA"), account, user, policy).await?.into())
    }

    /// Makes another key of the same user, account and policy, and disables the old one unless it is to be kept. The key of
    /// `credentials.json` is replaced there before it is disabled.
    pub async fn rotate(&self, id: &str, keep_old: bool) -> Result<NewKey, KeyError> {
        let mut published = self.writer.lock().await;
        let old = self.known(id)?;
        self.room()?;
        let (account, user) = (old.identity.account().clone(), old.identity.user().clone());
        let new = self.add(Secret::generate("AKIA"), account, user, old.policy.clone()).await?;
        if *published == old.id {
            *published = match self.publish(&new).await {
                Ok(id) => id,
                Err(error) => {
                    // Nobody was told of it: as if it had not been.
                    self.store.delete_key(&new.id).await?;
                    self.take(&new.id);
                    return Err(KeysError::from(error).into());
                }
            };
        }
        if !keep_old {
            self.set_active(&old, false).await?;
        }
        Ok(new.into())
    }

    /// Lets a key be used again. A repeat is safe.
    pub async fn enable(&self, id: &str) -> Result<Arc<Key>, KeyError> {
        let _writer = self.writer.lock().await;
        let key = self.known(id)?;
        self.set_active(&key, true).await
    }

    /// Refuses a key, and what was issued with it, from now on. A repeat is safe.
    pub async fn disable(&self, id: &str) -> Result<Arc<Key>, KeyError> {
        let mut published = self.writer.lock().await;
        let key = self.known(id)?;
        self.spare(&key, &mut published).await?;
        self.set_active(&key, false).await
    }

    /// Forgets a key, and what was issued with it.
    pub async fn delete(&self, id: &str) -> Result<(), KeyError> {
        let mut published = self.writer.lock().await;
        let key = self.known(id)?;
        self.spare(&key, &mut published).await?;
        self.store.delete_key(&key.id).await?;
        self.take(&key.id);
        Ok(())
    }

    /// Gives the user of that key, and so all of the user's keys, a policy instead of the one before.
    pub async fn set_policy(&self, id: &str, text: String) -> Result<Arc<Key>, KeyError> {
        let _writer = self.writer.lock().await;
        let key = self.known(id)?;
        let (account, user) = (key.identity.account(), key.identity.user());
        if *user == User::Root {
            return Err(KeyError::RootPolicy);
        }
        let policy = Policy::parse(&text)?;
        self.store.set_key_policy(account, &user.to_string(), &text).await?;
        let identity = Arc::new(Identity::new(self.partition, account.clone(), user.clone(), vec![policy]));
        for each in self.list().into_iter().filter(|each| is_of(each, account, user)) {
            self.put(Key { identity: identity.clone(), policy: Some(text.clone()), ..(*each).clone() });
        }
        self.known(id)
    }

    fn known(&self, id: &str) -> Result<Arc<Key>, KeyError> {
        self.find(id).ok_or_else(|| KeyError::NotFound(id.chars().take(64).collect()))
    }

    fn room(&self) -> Result<(), KeyError> {
        if self.list().len() < MAX_KEYS { Ok(()) } else { Err(KeyError::Full) }
    }

    async fn set_active(&self, key: &Key, active: bool) -> Result<Arc<Key>, KeyError> {
        self.store.set_key_active(&key.id, active).await?;
        let key = Key { active, ..key.clone() };
        self.put(key.clone());
        Ok(Arc::new(key))
    }

    /// Sees to it that root can do without the key: another one must be usable, and stand in `credentials.json`.
    async fn spare(&self, key: &Key, published: &mut String) -> Result<(), KeyError> {
        if !self.is_usable_root(&key.id) {
            return Ok(());
        }
        let other =
            self.root_but(Some(&key.id)).ok_or_else(|| KeyError::LastRoot(key.id.clone(), self.first.clone()))?;
        if *published == key.id {
            *published = self.publish(&other).await.map_err(KeysError::from)?;
        }
        Ok(())
    }
}

fn is_of(key: &Key, account: &AccountId, user: &User) -> bool {
    key.identity.account() == account && key.identity.user() == user
}
