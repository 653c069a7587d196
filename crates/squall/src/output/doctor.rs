//! `squall doctor` and the capabilities in `squall nodes`.

use serde::Serialize;
use squall_core::hold::{Capability, Holding};

use super::table::{NONE, table};

/// `doctor`.
#[derive(Debug, Serialize)]
pub struct DoctorView {
    /// Each fault.
    pub faults: Vec<CapabilityView>,
}

/// One fault on this host.
#[derive(Debug, Serialize)]
pub struct CapabilityView {
    /// Its name.
    pub fault: String,
    /// The backend that would be used; `null` where the fault is unsupported.
    pub backend: Option<String>,
    /// Other backends that this host could use.
    pub fallbacks: Vec<String>,
    /// `held`, `needs-undo` or `one-shot`; `null` where the fault is unsupported.
    pub held: Option<Holding>,
    /// Why it is unsupported, or what limits it; empty where nothing does.
    pub reason: String,
}

impl DoctorView {
    /// The view of what was probed.
    #[must_use]
    pub fn new(rows: &[Capability]) -> DoctorView {
        let view = |c: &Capability| CapabilityView {
            fault: c.fault.name().to_owned(),
            backend: c.backend.clone(),
            fallbacks: c.fallbacks.clone(),
            held: c.backend.is_some().then_some(c.held),
            reason: c.reason.clone(),
        };
        DoctorView { faults: rows.iter().map(view).collect() }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let rows = self.faults.iter().map(|c| {
            let backend = c.backend.clone().unwrap_or_else(|| format!("unsupported: {}", c.reason));
            let limits = if c.backend.is_some() { c.reason.clone() } else { String::new() };
            let held = c.held.map_or(NONE, holding);
            [c.fault.clone(), held.to_owned(), backend, c.fallbacks.join(", "), limits]
        });
        table(["FAULT", "HELD", "BACKEND", "FALLBACKS", "LIMITS"], rows.collect())
    }
}

fn holding(held: Holding) -> &'static str {
    match held {
        Holding::Held => "held",
        Holding::NeedsUndo => "needs undo",
        Holding::OneShot => "one shot",
    }
}
