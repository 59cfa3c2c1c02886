//! What was expected, what was measured, and how both are shown.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

/// Outcome of a demo.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<Step>,
    timings_ms: BTreeMap<&'static str, f64>,
}

#[derive(Debug)]
struct Step {
    name: String,
    ok: bool,
    detail: String,
}

/// One row of the table: the key in the JSON, what it is called, what users of AWS published, and the promise of
/// SPEC.md in milliseconds.
struct Row(&'static str, &'static str, &'static str, Option<f64>);

/// AWS's figures are those of the launch article that the specification names `[seed]`.
const ROWS: [Row; 9] = [
    Row("image_build", "image build", "180 s", None),
    Row("run_api", "run API latency", "1.17 s", None),
    Row("run_to_running", "time to RUNNING", "12 s", None),
    Row("run_to_first_byte", "run to first answer", "-", Some(1000.0)),
    Row("first_request", "first request", "0.911 s", None),
    Row("warm_request", "warm request", "0.340 s", None),
    Row("suspend", "suspend", "-", Some(150.0)),
    Row("resume_to_first_byte", "suspended to first answer (resume)", "1.86 s", None),
    Row("wake_on_request", "suspended to first answer (request)", "1.86 s", Some(700.0)),
];

impl Report {
    /// Records an expectation, and shows it.
    pub fn expect(&mut self, name: impl Into<String>, ok: bool, detail: impl Into<String>) {
        let step = Step { name: name.into(), ok, detail: detail.into() };
        let mark = if ok { "ok  " } else { "FAIL" };
        let detail: String = step.detail.lines().collect::<Vec<_>>().join(" | ");
        println!("  {mark} {}{}{detail}", step.name, if detail.is_empty() { "" } else { ": " });
        self.steps.push(step);
    }

    /// Records something that should not have happened.
    pub fn fail(&mut self, name: impl Into<String>, detail: impl Into<String>) {
        self.expect(name, false, detail);
    }

    /// Records a timing.
    pub fn timing(&mut self, name: &'static str, millis: f64) {
        self.timings_ms.insert(name, millis);
    }

    /// A timing of before.
    pub fn timed(&self, name: &str) -> Option<f64> {
        self.timings_ms.get(name).copied()
    }

    /// Holds the medians against the promises of SPEC.md.
    pub fn keep_promises(&mut self) {
        for Row(key, title, _, promise) in &ROWS {
            if let Some((millis, limit)) = self.timed(key).zip(*promise) {
                let detail = format!("{millis:.1} ms, promised less than {limit:.0} ms");
                self.expect(format!("promise: {title}"), millis < limit, detail);
            }
        }
    }

    /// How many expectations were not met; one when nothing was expected at all.
    pub fn failures(&self) -> usize {
        if self.steps.is_empty() {
            return 1;
        }
        self.steps.iter().filter(|step| !step.ok).count()
    }

    /// The table and the sum.
    pub fn print(&self, elapsed: Duration) {
        if !self.timings_ms.is_empty() {
            println!("\n{}", self.table());
        }
        let failed: Vec<&Step> = self.steps.iter().filter(|step| !step.ok).collect();
        for step in &failed {
            println!("FAILED {}: {}", step.name, step.detail);
        }
        let (all, met) = (self.steps.len(), self.steps.len() - failed.len());
        println!("demo: {met} of {all} expectations met in {} s", elapsed.as_secs());
    }

    fn table(&self) -> String {
        let mut text = format!("{:<37}{:>12}  {:>15}\n", "", "here", "on AWS (users)");
        for Row(key, title, aws, _) in &ROWS {
            let here = self.timed(key).map_or_else(|| "-".to_owned(), seconds);
            text.push_str(&format!("{title:<37}{here:>12}  {aws:>15}\n"));
        }
        text
    }

    /// For scripts.
    pub fn json(&self) -> String {
        let steps: Vec<_> =
            self.steps.iter().map(|step| json!({"name": step.name, "ok": step.ok, "detail": step.detail})).collect();
        let timings: serde_json::Map<String, serde_json::Value> =
            ROWS.iter().filter_map(|Row(key, ..)| Some(((*key).to_owned(), self.timed(key)?.into()))).collect();
        format!("{:#}\n", json!({"ok": self.failures() == 0, "steps": steps, "timings_ms": timings}))
    }
}

fn seconds(millis: f64) -> String {
    if millis < 1000.0 { format!("{:.3} s", millis / 1000.0) } else { format!("{:.1} s", millis / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_promised_members() {
        let mut report = Report::default();
        assert_eq!(report.failures(), 1, "an empty demo is no success");
        report.expect("a", true, "");
        report.timing("suspend", 42.5);
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["steps"][0], json!({"name": "a", "ok": true, "detail": ""}));
        assert_eq!(json["timings_ms"]["suspend"], 42.5);
        report.timing("wake_on_request", 700.0);
        report.keep_promises();
        assert_eq!(report.failures(), 1, "a promise of less than 700 ms is not kept by 700 ms");
    }

    #[test]
    fn the_table_shows_both_figures() {
        let mut report = Report::default();
        report.timing("run_api", 4.2);
        report.timing("image_build", 45_300.0);
        let table = report.table();
        assert!(
            table.lines().any(|line| line.contains("run API latency") && line.ends_with("0.004 s           1.17 s"))
        );
        assert!(table.lines().any(|line| line.starts_with("image build") && line.contains("45.3 s")), "{table}");
    }
}
