//! What a run found: a table for people, JSON for programs.

use serde::Serialize;

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub name: &'static str,
    pub rounds: usize,
    pub agents: usize,
    pub results: Vec<Row>,
    /// What the coordinator's memory grew by for each agent, after all rounds.
    pub rss_kib_per_agent: f64,
    pub goals: Vec<Goal>,
}

/// One subject.
#[derive(Debug, Serialize)]
pub struct Row {
    pub subject: &'static str,
    pub median_ms: f64,
    /// To the median of raw UDP.
    pub ratio: f64,
    pub fastest_ms: f64,
    pub slowest_ms: f64,
    /// Answers in all rounds.
    pub acks: usize,
    /// Datagrams that had to be sent again, where the subject counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Rounds whose stop was in the log in the end, where there is a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<usize>,
}

/// One goal.
#[derive(Debug, Serialize)]
pub struct Goal {
    pub goal: &'static str,
    pub most: f64,
    pub measured: f64,
    pub met: bool,
}

impl Goal {
    pub fn new(goal: &'static str, most: f64, measured: f64) -> Goal {
        let measured = rounded(measured);
        Goal { goal, most, measured, met: measured <= most }
    }
}

/// Two places: what is behind them is noise.
pub fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

impl Report {
    /// The table to stderr, the JSON to stdout.
    pub fn print(&self) {
        eprintln!(
            "{}: {} agents, {} rounds, last answer as the one who asks sees it",
            self.name, self.agents, self.rounds
        );
        eprintln!(
            "{:<18} {:>10} {:>8} {:>10} {:>10}",
            "", "median ms", "x UDP", "fastest", "slowest"
        );
        for row in &self.results {
            let Row { subject, median_ms, ratio, fastest_ms, slowest_ms, .. } = row;
            eprintln!(
                "{subject:<18} {median_ms:>10.2} {ratio:>8.2} {fastest_ms:>10.2} {slowest_ms:>10.2}"
            );
        }
        for goal in &self.goals {
            let verdict = if goal.met { "met" } else { "missed" };
            eprintln!(
                "{:<32} {:>8.2}, goal {:>5.1}: {verdict}",
                goal.goal, goal.measured, goal.most
            );
        }
        let json = serde_json::to_string_pretty(self).expect("numbers and words");
        println!("{json}");
    }
}
