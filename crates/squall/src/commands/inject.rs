//! This host alone: `inject`, `lift`, `doctor`. The agent here is asked where one runs; else this
//! process is the agent for as long as it takes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use squall_agent::config::POLICY_FILE;
use squall_agent::local::{Client, Injected};
use squall_core::experiment::Why;
use squall_core::fault::Fault;
use squall_core::hold::Achieved;
use squall_core::ids::HostName;
use squall_core::message::{FaultReport, HostPhase};
use squall_core::policy::Policy;
use squall_faults::residue;
use tokio::sync::Notify;

use super::forms::form;
use super::roles::AgentDirs;
use super::watch::Interrupts;
use super::{quiet_logs, roles, runtime, show};
use crate::cli::{Format, InjectKind, LocalDirs};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::doctor::DoctorView;
use crate::output::table::{or_none, table};
use crate::output::{self, talk, words};

/// How long an agent may take to lift everything, prove it, and answer.
const LIFTING: Duration = Duration::from_secs(15);
/// How long an agent of our own may take to open its socket.
const OPENING: Duration = Duration::from_secs(10);
/// Between two looks for that socket.
const LOOKING: Duration = Duration::from_millis(10);

/// `squall doctor`.
pub fn doctor(format: Format) -> Outcome {
    show(format, &DoctorView::new(&squall_faults::doctor::doctor()), DoctorView::table)
}

/// One fault's end, as it is printed.
#[derive(Serialize)]
struct LocalView {
    host: String,
    id: String,
    kind: Option<String>,
    phase: String,
    achieved: Option<Achieved>,
    ended_by: Option<String>,
    lift_ms: Option<u64>,
    residue: Vec<String>,
    refusal: Option<String>,
}

fn local_view(fault: &FaultReport) -> LocalView {
    let ended = fault.ended.as_ref();
    let achieved = ended.and_then(|e| e.achieved.clone()).or_else(|| fault.achieved.clone());
    LocalView {
        host: fault.id.host.to_string(),
        id: fault.id.to_string(),
        kind: fault.kind.map(|k| k.name().to_owned()),
        phase: fault.phase.name().to_owned(),
        achieved,
        ended_by: ended.map(|e| e.why.to_string()),
        lift_ms: ended.map(|e| e.lift_ms),
        residue: ended.map(|e| e.residue.clone()).unwrap_or_default(),
        refusal: match ended.map(|e| &e.why) {
            Some(Why::NotHeld { reason, .. }) => Some(reason.clone()),
            _ => None,
        },
    }
}

fn local_table(faults: &[LocalView]) -> String {
    let rows = faults.iter().map(|f| {
        let measured = f.achieved.as_ref().map(|a| a.measured.clone()).unwrap_or_default();
        let why = f.ended_by.clone().unwrap_or_default();
        [
            f.id.clone(),
            or_none(f.kind.as_deref().unwrap_or_default()),
            f.phase.clone(),
            or_none(&measured),
            or_none(&why),
            or_none(&f.lift_ms.map(words::length).unwrap_or_default()),
            or_none(&f.residue.join("; ")),
        ]
    });
    table(
        ["FAULT", "KIND", "PHASE", "MEASURED", "ENDED BY", "LIFTED IN", "RESIDUE"],
        rows.collect(),
    )
}

/// `squall inject`.
pub fn inject(kind: InjectKind, format: Format) -> Outcome {
    let (form, span) = form(kind);
    let fault = squall_core::spec::resolve_local(&form, span.length).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::usage(problems.join("\n"), format!("squall explain {}", form.kind()))
    })?;
    let dirs = AgentDirs::to_hold(&span.dirs)?;
    let policy = roles::policy(dirs.policy.as_deref())?;
    let policy_file = dirs.policy.as_deref().unwrap_or(Path::new(POLICY_FILE));
    quiet_logs();
    runtime()?.block_on(async {
        let interrupts = Interrupts::new()?;
        with_agent(&dirs, policy, async |agent| {
            hold(agent, fault, span.length.0, interrupts, policy_file, format).await
        })
        .await
    })
}

/// Holds one fault to its end.
async fn hold(
    mut agent: Client,
    fault: Fault,
    duration_ms: u64,
    mut interrupts: Interrupts,
    policy_file: &Path,
    format: Format,
) -> Outcome {
    let is_done = matches!(&fault, Fault::Kill(kill) if kill.interval_ms.is_none());
    let gone = |e: std::io::Error| {
        Failure::new(Exit::NotClean, format!("the agent is gone: {e}"), "squall lift proves it").with_hosts(
            "the kernel takes the fault back when its holder dies with the agent; nobody saw it go",
        )
    };
    agent.inject(fault, duration_ms).await.map_err(gone)?;
    let mut interrupted = false;
    let over = loop {
        let news = tokio::select! {
            news = agent.next() => news.map_err(gone)?,
            () = interrupts.next(), if !interrupted => {
                interrupted = true;
                talk("lifting");
                agent.lift().await.map_err(gone)?;
                continue;
            }
        };
        match news {
            Injected::Changed(fault) => commentary(&fault, is_done, duration_ms),
            Injected::Over(fault) => break fault,
            Injected::Refused { reason, by_safety } => {
                let (exit, next) = if by_safety {
                    (Exit::Refused, remedy(&reason, policy_file))
                } else {
                    let next = "see that the agent runs (squall agent) and is armed (squall nodes), \
                                then try again";
                    (Exit::Broken, next.to_owned())
                };
                let what = format!("refused: {reason}");
                return Err(Failure::new(exit, what, next).with_hosts("nothing was touched"));
            }
        }
    };
    let told = output::emit(format, &local_view(&over), |v| local_table(std::slice::from_ref(v)));
    exit_of(&over, interrupted).after(told)
}

/// What lets the host take the fault that it refused for this reason. A latch names its stops.
fn remedy(reason: &str, policy_file: &Path) -> String {
    let latched = reason.strip_prefix("this host is stopped by ").and_then(|r| r.split_once(": "));
    match latched {
        Some((stops, _)) => {
            format!(
                "once it is safe, where the operator is: squall resume {}",
                stops.replace(", ", " ")
            )
        }
        None => {
            let file = policy_file.display();
            format!("change the fault; or the host's policy, {file}, and restart its agent")
        }
    }
}

/// `is_done`: it happens once, and nothing of it stays to be held.
fn commentary(fault: &FaultReport, is_done: bool, duration_ms: u64) {
    match (&fault.achieved, fault.phase) {
        (Some(a), HostPhase::Held) => {
            let bit = match (a.bit, is_done) {
                (true, true) => "done",
                (true, false) => "held",
                (false, true) => "done, NOT SEEN to bite",
                (false, false) => "in place, NOT SEEN to bite",
            };
            let note = if a.note.is_empty() { String::new() } else { format!(" ({})", a.note) };
            let (asked, measured) = (&a.requested, &a.measured);
            if is_done {
                return talk(format!("{bit}: asked {asked}, measured {measured}{note}"));
            }
            talk(format!(
                "{bit}: asked {}, measured {}{note}; ends in {} or with Ctrl-C",
                a.requested,
                a.measured,
                words::length(fault.remaining_ms.min(duration_ms))
            ));
        }
        (_, HostPhase::Stuck) => talk("NOT CLEAN, trying again"),
        _ => {}
    }
}

fn exit_of(fault: &FaultReport, interrupted: bool) -> Exit {
    let ended = fault.ended.as_ref();
    let bit = ended.and_then(|e| e.achieved.as_ref()).is_some_and(|a| a.bit);
    match (fault.phase, ended.map(|e| &e.why)) {
        // By a signal, a stop-all, or somebody's lift.
        (HostPhase::Clean, _) if interrupted => Exit::Stopped,
        (HostPhase::Clean, Some(Why::CameLate { .. })) => Exit::Unknown,
        (HostPhase::Clean, Some(Why::Deadline)) if bit => Exit::Held,
        (HostPhase::Clean, Some(Why::Deadline) | None) => Exit::Unknown,
        (HostPhase::Clean, Some(_)) => Exit::Stopped,
        (HostPhase::Lost, _) => Exit::Unknown,
        (HostPhase::NotHeld, Some(Why::NotHeld { refused: true, .. })) => Exit::Refused,
        (HostPhase::NotHeld, _) => Exit::Broken,
        (
            HostPhase::Journaling
            | HostPhase::Applying
            | HostPhase::Held
            | HostPhase::Reverting
            | HostPhase::Stuck,
            _,
        ) => Exit::NotClean,
    }
}

/// `squall lift`.
pub fn lift(dirs: &LocalDirs, format: Format) -> Outcome {
    quiet_logs();
    // To make a host whole needs nobody's leave and no file; but whoever injects meanwhile asks this agent.
    let usual = |failure: Failure| {
        talk(format!("{}: looking in the usual places", failure.what));
        AgentDirs::usual(dirs)
    };
    let dirs = AgentDirs::find(dirs).unwrap_or_else(usual);
    let nothing = |_| Policy { allow: BTreeSet::new(), ..Policy::default() };
    let policy = roles::policy(dirs.policy.as_deref()).unwrap_or_else(nothing);
    let mut told = Ok(());
    let lifted = runtime()?.block_on(with_agent(&dirs, policy, async |mut agent| {
        let silent = |_| {
            let next =
                "wait so long; or kill the agent (kill -9), which lifts at once; then squall lift";
            Failure::new(Exit::NotClean, "the agent takes no order: frozen, or very busy", next)
                .with_hosts("each fault here ends when its lease does, within 30 s")
        };
        let lifting = tokio::time::timeout(LIFTING, agent.lift_all());
        let faults = lifting.await.map_err(silent)?.map_err(|e| {
            Failure::new(Exit::NotClean, format!("the agent is gone: {e}"), "squall lift again")
        })?;
        // An agent knows of its own faults; another may have lived here, with a journal elsewhere.
        let others = residue::of_any_fault();
        let left = faults.iter().any(|f| f.phase == HostPhase::Stuck);
        let views: Vec<LocalView> = faults.iter().map(local_view).collect();
        told = output::emit(format, &views, |v| {
            match (v.is_empty(), others.as_ref().is_ok_and(Vec::is_empty)) {
                (true, true) => "clean: nothing was held\n".into(),
                (true, false) => "this agent held nothing\n".into(),
                (false, _) => local_table(v),
            }
        });
        let others = others.map_err(|e| {
            Failure::new(
                Exit::NotClean,
                format!("this host cannot be looked at: {e}"),
                "run as root, with CAP_NET_ADMIN",
            )
        })?;
        if left {
            talk("NOT CLEAN: what is left is shown above; squall lift tries again");
        }
        if !others.is_empty() {
            let what = format!("not this agent's, or just begun:\n  {}", others.join("\n  "));
            let next = "lift it where it was injected; kill -9 of a holder lifts at once";
            return Err(Failure::new(Exit::NotClean, what, next));
        }
        Ok(if left { Exit::NotClean } else { Exit::Held })
    }));
    // Whatever kept it from looking: nobody has seen this host clean.
    let seen = lifted.map_err(|failure| match failure.exit {
        Exit::NotClean => failure,
        _ => Failure { exit: Exit::NotClean, ..failure }.with_hosts(
            "nobody looked at this host; each fault here ends with its lease at the latest",
        ),
    });
    seen?.after(told)
}

/// Runs `command` with a connection to this host's agent, or to one of our own with this policy.
async fn with_agent(
    dirs: &AgentDirs,
    policy: Policy,
    command: impl AsyncFnOnce(Client) -> Outcome,
) -> Outcome {
    let unusable = |e: std::io::Error| {
        Failure::local(
            format!("the agent's socket in {}: {e}", dirs.run.display()),
            "run as the agent's user, mostly root",
        )
    };
    let failed = |e: squall_agent::AgentError| {
        Failure::local(format!("this host's agent: {e}"), "mend that; mostly this needs root")
    };
    let (began, end) = (std::time::Instant::now(), Arc::new(Notify::new()));
    let (agent, alone) = loop {
        if let Some(agent) = Client::connect(&dirs.run).await.map_err(unusable)? {
            return command(agent).await;
        }
        let (state, run, end) = (&dirs.state, &dirs.run, end.clone());
        let ending = async move { end.notified().await };
        let mut alone = Box::pin(squall_agent::lone(
            state,
            run,
            this_host(),
            policy.clone(),
            dirs.member,
            ending,
        ));
        tokio::select! {
            agent = opened(dirs) => break (agent?, alone),
            ended = &mut alone => match ended {
                // Another command became the agent just before; or is about to end.
                Err(e) if e.is_beside_another() && began.elapsed() < OPENING => {}
                ended => return ended.map_err(failed).and(Err(closed())),
            },
        }
        tokio::time::sleep(LOOKING).await;
    };
    let asked = command(agent);
    tokio::pin!(asked, alone);
    let (outcome, ended) = tokio::select! {
        ended = &mut alone => (asked.await, ended),
        outcome = &mut asked => (outcome, to_the_end(alone, &end).await?),
    };
    match ended {
        Err(e) if !e.is_beside_another() => Err(failed(e)),
        Ok(()) | Err(_) => outcome,
    }
}

/// Runs an agent of our own to its end, so that nothing is cut short: others may inject through it.
/// A signal lifts what they do.
async fn to_the_end<T>(alone: impl Future<Output = T>, end: &Notify) -> Result<T, Failure> {
    let mut interrupts = Interrupts::new()?;
    tokio::pin!(alone);
    loop {
        tokio::select! {
            ended = &mut alone => return Ok(ended),
            () = interrupts.next() => {
                talk("lifting what others inject through this command");
                end.notify_one();
            }
        }
    }
}

async fn opened(dirs: &AgentDirs) -> Result<Client, Failure> {
    let began = std::time::Instant::now();
    loop {
        if let Ok(Some(agent)) = Client::connect(&dirs.run).await {
            return Ok(agent);
        }
        if began.elapsed() > OPENING {
            return Err(closed());
        }
        tokio::time::sleep(LOOKING).await;
    }
}

fn closed() -> Failure {
    Failure::local("this host's agent did not open its socket", "try again")
}

fn this_host() -> HostName {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_lowercase();
    name.parse().unwrap_or_else(|_| "localhost".parse().expect("a host name"))
}

#[cfg(test)]
mod tests {
    use squall_core::host::LocalRefusal;
    use squall_core::ids::StopId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_latched_host_and_a_policy_have_different_remedies() {
        let stops = [1, 2].map(|n| StopId(Uuid::from_u128(n)));
        let policy = Path::new("/etc/ours.toml");
        let latched = LocalRefusal::Latched(stops.to_vec()).to_string();
        let resume = format!("squall resume {} {}", stops[0], stops[1]);
        assert!(remedy(&latched, policy).ends_with(&resume), "{}", remedy(&latched, policy));
        let refused = LocalRefusal::Refused("policy: at most 2 faults".into()).to_string();
        assert!(remedy(&refused, policy).contains("/etc/ours.toml"));
    }
}
