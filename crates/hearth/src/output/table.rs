//! Aligned columns.

use std::fmt;

/// Rows of text under headings, two spaces between columns, nothing at the ends of lines.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Table { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row; missing cells are empty, cells too many are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let columns = self.rows[0].len();
        let mut row: Vec<String> = cells.into_iter().map(Into::into).take(columns).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["ID", "STATE", "AGE"]);
        table.row(["a", "RUNNING", "1s"]);
        table.row(["long-id", "ü", "2s", "dropped"]);
        table.row(["b"]);
        let expected = "\
ID       STATE    AGE
a        RUNNING  1s
long-id  ü        2s
b
";
        assert_eq!(table.to_string(), expected);
    }
}
