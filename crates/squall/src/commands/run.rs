//! `squall plan` and `squall run`.

use std::path::Path;

use serde::Serialize;
use squall_core::experiment::{ExperimentRecord, Phase};
use squall_core::ids::ExperimentId;
use squall_core::message::{Request, Response, Shown};
use squall_core::spec::File;
use uuid::Uuid;

use super::watch::{Commentary, Interrupts, conclude, ended, follow, is_settled, order_end};
use super::{command_id, odd};
use crate::cli::Format;
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::output::experiment::ExperimentView;
use crate::output::plan::PlanView;
use crate::output::{self, summary, talk};
use crate::places::Places;

/// An experiment file.
pub struct ExperimentFile {
    /// As JSON, for the coordinators.
    json: String,
    places: Option<Places>,
}

impl ExperimentFile {
    /// Reads it.
    ///
    /// # Errors
    /// It is refused, with file, line and column.
    pub fn read(path: &Path, format: Format) -> Result<ExperimentFile, Failure> {
        let read = files::read(path).and_then(|text| {
            let json = to_json(path, &text)?;
            Ok(ExperimentFile { json, places: Places::new(path, &text) })
        });
        read.map_err(|failure| told(failure.with_hosts("no host was asked for anything"), format))
    }

    /// What the coordinators refuse of it has its places.
    fn point(&self, failure: Failure) -> Failure {
        match &self.places {
            Some(places) => places.point(failure),
            None => failure,
        }
    }
}

fn to_json(path: &Path, text: &str) -> Result<String, Failure> {
    let file: File = files::yaml(
        path,
        text,
        "squall explain experiment shows the shape; squall schema has it all",
    )?;
    serde_json::to_string(&file)
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display()), "simplify the file"))
}

/// `squall plan`.
pub async fn plan(client: &Client, file: &ExperimentFile, format: Format) -> Outcome {
    let request = Request::Plan(file.json.clone());
    let answer = client.read(&request).await.map_err(|f| told(file.point(f), format))?;
    let plan = match answer {
        Response::Plan(plan) => *plan,
        other => return Err(odd(&request, &other)),
    };
    output::emit(format, &PlanView::new(&plan), PlanView::table)?;
    match &plan.refusal {
        Some(refusal) => Err(file.point(Failure::refused(refusal))),
        None => Ok(Exit::Held),
    }
}

/// What a program reads of a file that cannot start.
#[derive(Serialize)]
struct Refused<'a> {
    refusal: &'a str,
    next: &'a str,
}

/// A refusal is data too: whoever asked for JSON is not left with nothing.
fn told(failure: Failure, format: Format) -> Failure {
    let is_refusal = matches!(failure.exit, Exit::Refused | Exit::Usage);
    if is_refusal && format != Format::Table {
        let refused = Refused { refusal: &failure.what, next: &failure.next };
        if let Err(untold) = output::emit(format, &refused, |_| String::new()) {
            talk(untold.to_string());
        }
    }
    failure
}

/// `squall run`.
pub async fn run(client: &Client, file: &ExperimentFile, detach: bool, format: Format) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    let id = ExperimentId(Uuid::new_v4());
    let request = Request::Submit { command: command_id(), id, file: file.json.clone() };
    let submitted = tokio::select! {
        submitted = client.write(&request) => submitted,
        () = interrupts.next() => Err(Failure::new(
            Exit::Unreachable,
            "left before a coordinator had answered",
            "squall stop-all needs no quorum",
        )
        .with_hosts("nobody knows yet whether it was begun")),
    };
    submitted.map_err(|failure| match failure.exit {
        Exit::Unreachable => {
            let next = format!("squall show {id}; squall stop {id} ends it; {}", failure.next);
            Failure { next, ..failure }
        }
        _ => told(file.point(failure), format),
    })?;
    talk(format!("experiment {id}"));
    let mut commentary = Commentary::default();
    let enough = move |record: &ExperimentRecord| {
        is_settled(record) || (detach && record.phase >= Phase::Holding && record.ending.is_none())
    };
    let shown = tokio::select! {
        shown = follow(client, id, &mut commentary, enough) => shown?,
        () = interrupts.next() => return interrupted(client, id, interrupts, format).await,
    };
    match (detach, is_settled(&shown.record)) {
        (false, _) => conclude(&shown, format),
        (true, false) => detached(id, &shown, format),
        // Over before anybody could leave it: its id all the same, and how it ended.
        (true, true) => {
            let view = emit_id(id, &shown, format)?;
            talk(summary::page(&view));
            Ok(ended(&shown.record))
        }
    }
}

fn emit_id(id: ExperimentId, shown: &Shown, format: Format) -> Result<ExperimentView, Failure> {
    let view = ExperimentView::new(shown);
    output::emit(format, &view, |_| format!("{id}\n"))?;
    Ok(view)
}

fn detached(id: ExperimentId, shown: &Shown, format: Format) -> Outcome {
    let view = emit_id(id, shown, format)?;
    talk(format!("{}; squall watch {id} follows it, squall stop {id} ends it", view.state));
    Ok(Exit::Held)
}

/// The first interrupt stops the experiment and waits for its hosts. Another one leaves it; not before it
/// is known whether the stop was ordered: two that come at once mean one.
async fn interrupted(
    client: &Client,
    id: ExperimentId,
    mut interrupts: Interrupts,
    format: Format,
) -> Outcome {
    talk("stopping the experiment, waiting for its hosts (again: leave without waiting)");
    let order = order_end(client, id);
    tokio::pin!(order);
    let ordered = loop {
        tokio::select! {
            ordered = &mut order => break ordered,
            () = interrupts.next() => talk("its stop is being ordered: waiting for an answer"),
        }
    };
    ordered.map_err(|failure| {
        let next = format!("squall stop {id}, or squall stop-all; {}", failure.next);
        Failure { next, ..failure }
    })?;
    let mut commentary = Commentary::skipping();
    tokio::select! {
        shown = follow(client, id, &mut commentary, is_settled) => conclude(&shown?, format),
        () = interrupts.next() => Err(Failure::new(
            Exit::NotClean,
            format!("left experiment {id}; its stop is ordered, and nobody here saw its hosts clean"),
            format!("squall stop {id} waits for them; or squall stop-all"),
        )
        .with_hosts("its faults may still be held; each ends at its deadline at the latest")),
    }
}
