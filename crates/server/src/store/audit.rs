//! Rows that do not belong together, for `hearth check`.

use super::{Store, StoreError};

/// Each gives the id of what is at odds. Rows of a microVM that is over may be going, the oldest first (`retention.rs`).
const QUERIES: [(&str, &str); 5] = [
    (
        "microVM: its events do not add up to its generation",
        "SELECT id FROM microvms LEFT JOIN (SELECT resource, COUNT(*) AS count, MIN(generation) AS first,
             MAX(generation) AS last FROM history WHERE kind = 'microvm' GROUP BY resource) ON resource = id
         WHERE last IS NOT generation OR count <> last - first + 1 OR (first <> 1 AND state <> 'TERMINATED')",
    ),
    (
        "microVM: it has a client token and no record",
        "SELECT resource FROM client_tokens WHERE operation = 'RunMicrovm' AND resource NOT IN (SELECT id FROM microvms)",
    ),
    (
        "microVM: it has events and no record",
        "SELECT DISTINCT resource FROM history WHERE kind = 'microvm' AND resource NOT IN (SELECT id FROM microvms)",
    ),
    ("image: it has no events", "SELECT arn FROM images WHERE arn NOT IN (SELECT resource FROM history)"),
    (
        "image: its last event and its record disagree about its end",
        "SELECT resource FROM history AS this WHERE kind = 'image'
         AND n = (SELECT MAX(n) FROM history WHERE resource = this.resource)
         AND (what = 'Deleted') = (resource IN (SELECT arn FROM images))",
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
