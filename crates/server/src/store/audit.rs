//! Rows that do not belong together, for `hearth check`.

use super::{Store, StoreError};

/// Each gives the id of what is at odds.
const QUERIES: [(&str, &str); 3] = [
    (
        "microVM: its events do not add up to its generation",
        "SELECT id FROM microvms WHERE generation <> 1 + (SELECT COUNT(*) FROM events WHERE microvm = id)",
    ),
    (
        "microVM: it has a client token and no record",
        "SELECT resource FROM client_tokens WHERE operation = 'RunMicrovm' AND resource NOT IN (SELECT id FROM microvms)",
    ),
    (
        "microVM: it has events and no record",
        "SELECT DISTINCT microvm FROM events WHERE microvm NOT IN (SELECT id FROM microvms)",
    ),
];

impl Store {
    /// One line for each.
    pub async fn audit(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for (what, sql) in QUERIES {
            let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
            found.extend(rows.into_iter().map(|(id,)| format!("{id}: {what}")));
        }
        Ok(found)
    }
}
