//! Forgetting what is over: records and rows of the history, some at a time, so that nobody waits long for the writer.

use api::Operation;
use lifecycle::Millis;
use sqlx::SqliteConnection;

use super::{Store, StoreError, tokens::REMEMBERED};
use crate::shared::now;

/// Rows of the history that one transaction removes at most.
const ROWS: i64 = 1000;
/// Things that it looks at, at most.
const THINGS: i64 = 100;

/// What a transaction has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// MicroVMs, with their rows.
    pub microvms: u64,
    /// Images that were gone already, with their rows.
    pub images: u64,
    /// Rows.
    pub rows: u64,
}

impl Forgotten {
    fn budget(&self) -> i64 {
        ROWS.saturating_sub_unsigned(self.rows)
    }
}

impl Store {
    /// Forgets some microVMs that were terminated, and rows of images that were deleted, at `before` or earlier. Nothing
    /// removed: there is nothing left to forget.
    ///
    /// A microVM whose client token is remembered stays until it is not, so that a repeated `RunMicrovm` finds it.
    pub async fn forget(&self, before: Millis) -> Result<Forgotten, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut done = Forgotten::default();
        forget_microvms(&mut transaction, before, &mut done).await?;
        forget_images(&mut transaction, before, &mut done).await?;
        transaction.commit().await?;
        if done != Forgotten::default() {
            crash::point("store: some of what is over forgotten");
        }
        Ok(done)
    }
}

async fn forget_microvms(
    connection: &mut SqliteConnection,
    before: Millis,
    done: &mut Forgotten,
) -> Result<(), StoreError> {
    let over: Vec<(String,)> = sqlx::query_as(
        "SELECT id FROM microvms WHERE state = 'TERMINATED' AND doc ->> '$.life.terminated_at' <= ?
         AND NOT EXISTS (SELECT 1 FROM client_tokens WHERE operation = ? AND resource = microvms.id AND at > ?)
         ORDER BY doc ->> '$.life.terminated_at' LIMIT ?",
    )
    .bind(before)
    .bind(Operation::RunMicrovm.as_str())
    .bind(now() - REMEMBERED)
    .bind(THINGS)
    .fetch_all(&mut *connection)
    .await?;
    for (id,) in over {
        if !forget_rows(connection, &id, i64::MAX, done).await? {
            return Ok(());
        }
        for sql in [
            "DELETE FROM microvms WHERE id = ?",
            "DELETE FROM activity WHERE microvm = ?",
            "DELETE FROM client_tokens WHERE resource = ? AND operation = 'RunMicrovm'",
        ] {
            sqlx::query(sql).bind(&id).execute(&mut *connection).await?;
        }
        done.microvms += 1;
    }
    Ok(())
}

/// Rows of an image that was made again under the same name, after the deletion, stay.
async fn forget_images(
    connection: &mut SqliteConnection,
    before: Millis,
    done: &mut Forgotten,
) -> Result<(), StoreError> {
    let gone: Vec<(String, i64)> = sqlx::query_as(
        "SELECT resource, n FROM history WHERE kind = 'image' AND what = 'Deleted' AND at <= ? ORDER BY at LIMIT ?",
    )
    .bind(before)
    .bind(THINGS)
    .fetch_all(&mut *connection)
    .await?;
    for (arn, last) in gone {
        if !forget_rows(connection, &arn, last, done).await? {
            return Ok(());
        }
        done.images += 1;
    }
    Ok(())
}

/// Removes the rows of a thing up to number `last`, the oldest first: what is left goes to the end without a gap. `false`: some
/// are left for the next transaction.
async fn forget_rows(
    connection: &mut SqliteConnection,
    resource: &str,
    last: i64,
    done: &mut Forgotten,
) -> Result<bool, StoreError> {
    let budget = done.budget();
    let removed = sqlx::query(
        "DELETE FROM history WHERE resource = ?1
         AND n IN (SELECT n FROM history WHERE resource = ?1 AND n <= ?2 ORDER BY n LIMIT ?3)",
    )
    .bind(resource)
    .bind(last)
    .bind(budget)
    .execute(connection)
    .await?;
    done.rows += removed.rows_affected();
    // With a full budget it is not known whether that was all: the next transaction finds out.
    Ok(removed.rows_affected() < budget.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use lifecycle::microvms::{Input, REASON_SUCCESS};

    use super::*;
    use crate::store::{
        Accepted, Claim, ImageEvent, Scope,
        fixture::{MINE, built, ended, microvm, opened, rows, step},
    };

    async fn forget_all(store: &Store, before: Millis) -> (Forgotten, u32) {
        let (mut all, mut turns) = (Forgotten::default(), 0);
        loop {
            let some = store.forget(before).await.unwrap();
            assert!(some.rows <= ROWS as u64, "{some:?}");
            assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
            if some == Forgotten::default() {
                return (all, turns);
            }
            turns += 1;
            all.microvms += some.microvms;
            all.images += some.images;
            all.rows += some.rows;
        }
    }

    #[tokio::test]
    async fn what_is_over_for_long_enough_goes_and_nothing_else() {
        let (_dir, store) = opened().await;
        let mut demo = built(&store, MINE, "demo").await;
        let (old, young) = (ended(&store, &demo, 1_000).await, ended(&store, &demo, 1_001).await);
        let mut live = microvm(&demo.0, &demo.1, 0);
        store.insert_microvm(&live, None, None).await.unwrap();
        step(&store, &mut live, Input::Started, 1, None).await;
        store.note_activity(&[(old.id, 5)]).await.unwrap();
        let expected = Forgotten { microvms: 1, images: 0, rows: 3 };
        assert_eq!(forget_all(&store, 1_000).await, (expected, 1));
        assert_eq!(store.microvm(old.id).await.unwrap(), None);
        assert!(store.activity().await.unwrap().is_empty());
        assert_eq!(rows(&store, MINE, &Scope::Microvm(old.id)).await, []);
        let kept = store.microvm(young.id).await.unwrap().unwrap();
        assert_eq!(kept.life.reason.as_deref(), Some(REASON_SUCCESS));
        assert_eq!(rows(&store, MINE, &Scope::Microvm(young.id)).await.len(), 3);
        assert_eq!(rows(&store, MINE, &Scope::Microvm(live.id)).await.len(), 2);
        assert_eq!(rows(&store, MINE, &Scope::Image(demo.0.arn.clone())).await.len(), 3, "an image that lives");

        demo.0.state = lifecycle::images::State::Deleting;
        store.update_image(&demo.0, &demo.1, ImageEvent::Deactivated).await.unwrap();
        store.delete_image(&demo.0).await.unwrap();
        assert_eq!(forget_all(&store, 1_000).await.1, 0, "it was deleted just now");
        let scope = Scope::Image(demo.0.arn.clone());
        let end = rows(&store, MINE, &scope).await.last().unwrap().at;
        let again = built(&store, MINE, "demo").await;
        let (all, _) = forget_all(&store, end).await;
        assert_eq!((all.images, all.rows), (1, 5 + 3), "{all:?}");
        assert_eq!(
            rows(&store, MINE, &Scope::Image(again.0.arn)).await.len(),
            3,
            "the image of that name that there is"
        );
        let next = ended(&store, &built(&store, MINE, "third").await, 9).await;
        let numbers: Vec<u64> = rows(&store, MINE, &Scope::Microvm(next.id)).await.iter().map(|row| row.n).collect();
        assert!(numbers[0] > 17, "numbers never come back: {numbers:?}");
    }

    #[tokio::test]
    async fn a_long_history_goes_in_pieces() {
        let (_dir, store) = opened().await;
        let demo = built(&store, MINE, "demo").await;
        let mut record = microvm(&demo.0, &demo.1, 0);
        store.insert_microvm(&record, None, None).await.unwrap();
        step(&store, &mut record, Input::Started, 1, None).await;
        for _ in 0..600 {
            step(&store, &mut record, Input::Suspend, 2, None).await;
            step(&store, &mut record, Input::SuspendRefused("no".into()), 2, None).await;
        }
        step(&store, &mut record, Input::Terminate, 3, None).await;
        step(&store, &mut record, Input::Ended, 3, None).await;
        let short = ended(&store, &demo, 4).await;
        let some = store.forget(10).await.unwrap();
        assert_eq!(some, Forgotten { microvms: 0, images: 0, rows: 1000 });
        assert!(store.microvm(record.id).await.unwrap().is_some(), "until the last row is gone");
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        let (rest, turns) = forget_all(&store, 10).await;
        assert_eq!((rest, turns), (Forgotten { microvms: 2, images: 0, rows: 204 + 3 }, 1));
        assert_eq!(store.microvm(short.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_remembered_client_token_keeps_its_microvm() {
        let (_dir, store) = opened().await;
        let demo = built(&store, MINE, "demo").await;
        let mut record = microvm(&demo.0, &demo.1, 0);
        let token = "token".to_owned();
        let claim = Claim::of(&record.account, Operation::RunMicrovm, Some(&token), &1).unwrap();
        assert_eq!(store.insert_microvm(&record, claim.as_ref(), None).await.unwrap(), Accepted::New);
        step(&store, &mut record, Input::Terminate, 1, None).await;
        step(&store, &mut record, Input::Ended, 1, None).await;
        assert_eq!(forget_all(&store, 10).await.1, 0);
        let replay = Accepted::Replay(record.id.to_string());
        assert_eq!(store.recall(claim.as_ref()).await.unwrap(), Some(replay));
        let sql = "UPDATE client_tokens SET at = ?";
        sqlx::query(sql).bind(now() - REMEMBERED).execute(&store.pool).await.unwrap();
        assert_eq!(store.recall(claim.as_ref()).await.unwrap(), None);
        assert_eq!(forget_all(&store, 10).await.0.microvms, 1);
        let (left,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM client_tokens").fetch_one(&store.pool).await.unwrap();
        assert_eq!(left, 0);
    }

    /// The work of one transaction does not grow with what is kept.
    #[tokio::test]
    async fn what_is_over_is_found_by_an_index() {
        let (_dir, store) = opened().await;
        for (sql, index) in [
            (
                "SELECT id FROM microvms WHERE state = 'TERMINATED' AND doc ->> '$.life.terminated_at' <= 5",
                "microvms_over",
            ),
            ("SELECT n FROM history WHERE kind = 'image' AND what = 'Deleted' AND at <= 5", "history_of_the_gone"),
            ("SELECT 1 FROM client_tokens WHERE operation = 'a' AND resource = 'b'", "client_tokens_of_resource"),
        ] {
            let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sql).fetch_all(&store.pool).await.unwrap();
            assert!(plan[0].3.contains(index), "{plan:?}");
        }
    }
}
