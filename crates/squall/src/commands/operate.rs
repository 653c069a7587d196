//! Questions about the cluster, and small orders to it.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use squall_core::experiment::ExperimentRecord;
use squall_core::ids::{ExperimentId, HostName, LogIndex, StopId};
use squall_core::message::{Request, Response, Shown, Status};

use super::{command_id, odd, show as print};
use crate::cli::{Format, Resume};
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::doctor::{CapabilityView, DoctorView};
use crate::output::experiment::ExperimentView;
use crate::output::faults::{FaultView, faults_table, is_partial, unheard_hosts, views as held};
use crate::output::judgement::ViewsView;
use crate::output::status::{ExperimentRow, HostView, StatusView, host_view, hosts, row, rows};
use crate::output::table::{blocks, table};
use crate::output::{self, summary, talk, words};

/// How long a drained host may take to be seen whole: the longest lease, and a little.
const WHOLE: Duration = Duration::from_secs(40);
/// How long one that holds nothing by the log may take to be heard.
const HEARD: Duration = Duration::from_secs(5);
/// Between two looks at it.
const AGAIN: Duration = Duration::from_millis(250);

/// What one coordinator, or a quorum, knows of the whole.
pub async fn ask_status(client: &Client) -> Result<Status, Failure> {
    match client.read(&Request::Status).await? {
        Response::Status(status) => Ok(*status),
        other => Err(odd(&Request::Status, &other)),
    }
}

/// `squall status`.
pub async fn status(client: &Client, format: Format) -> Outcome {
    let status = ask_status(client).await?;
    say_left_out(status.left_out);
    print(format, &StatusView::new(&status, |id| client.dir.name_of(id)), StatusView::table)
}

/// Something of a list, marked with whether a quorum stood behind the answer.
#[derive(Serialize)]
struct Marked<T> {
    #[serde(flatten)]
    of: T,
    confirmed: bool,
}

/// Marks each, and tells a person where none did.
fn marked<T>(all: Vec<T>, confirmed: bool, applied: LogIndex) -> Vec<Marked<T>> {
    if !confirmed {
        talk(words::unconfirmed(applied.0));
    }
    all.into_iter().map(|of| Marked { of, confirmed }).collect()
}

/// One line of `squall nodes`.
#[derive(Serialize)]
struct NodeView {
    #[serde(flatten)]
    host: HostView,
    capabilities: Vec<CapabilityView>,
}

/// `squall nodes`.
pub async fn nodes(client: &Client, format: Format) -> Outcome {
    let status = ask_status(client).await?;
    let node = |host: &squall_core::message::HostStatus| NodeView {
        host: host_view(host),
        capabilities: DoctorView::new(status.capabilities_of(host)).faults,
    };
    let nodes: Vec<NodeView> = status.hosts.iter().map(node).collect();
    print(format, &marked(nodes, status.confirmed, status.applied), |nodes| {
        let holds = nodes.iter().map(|Marked { of: n, .. }| {
            let able = n.capabilities.iter().filter(|c| c.backend.is_some());
            let able: Vec<_> = able.map(|c| c.fault.as_str()).collect();
            let not = n.capabilities.iter().filter(|c| c.backend.is_none());
            let not: Vec<_> = not.map(|c| format!("{} ({})", c.fault, c.reason)).collect();
            [n.host.name.clone(), able.join(" "), not.join(", ")]
        });
        let holds = table(["HOST", "CAN HOLD", "CANNOT"], holds.collect());
        let about: Vec<&HostView> = nodes.iter().map(|n| &n.of.host).collect();
        blocks([hosts(&about), holds])
    })
}

/// `squall faults`. A list that may lack something does not end as a whole one does.
pub async fn faults(client: &Client, format: Format) -> Outcome {
    let status = ask_status(client).await?;
    let faults: Vec<FaultView> = held(&status);
    say_unheard(&status);
    let faults = marked(faults, status.confirmed, status.applied);
    print(format, &faults, |f| faults_table(f.iter().map(|f| &f.of), &status))?;
    Ok(if is_partial(&status) { Exit::Unknown } else { Exit::Held })
}

/// Names the hosts of which this answer knows nothing.
pub fn say_unheard(status: &Status) {
    let hosts = unheard_hosts(status);
    if !hosts.is_empty() {
        talk(format!("not heard by the coordinator that answered: {}", hosts.join(", ")));
    }
}

/// `squall views`.
pub async fn views(client: &Client, format: Format) -> Outcome {
    match client.read(&Request::Views).await? {
        Response::Views(answer) => print(format, &ViewsView::new(&answer), ViewsView::table),
        other => Err(odd(&Request::Views, &other)),
    }
}

/// The experiments, whether a quorum stood behind that, and as of which entry.
async fn list(client: &Client) -> Result<(Vec<ExperimentRecord>, bool, LogIndex), Failure> {
    match client.read(&Request::List).await? {
        Response::Experiments { list, left_out, confirmed, applied } => {
            say_left_out(left_out);
            Ok((list, confirmed, applied))
        }
        other => Err(odd(&Request::List, &other)),
    }
}

fn say_left_out(experiments: u32) {
    if experiments > 0 {
        talk(format!("{experiments} more have no room in the list; squall show takes their ids"));
    }
}

/// `squall ls`.
pub async fn ls(client: &Client, format: Format) -> Outcome {
    let (list, confirmed, applied) = list(client).await?;
    let experiments: Vec<ExperimentRow> = list.iter().map(row).collect();
    print(format, &marked(experiments, confirmed, applied), |e| match e.is_empty() {
        true => "no experiment yet\n".into(),
        false => rows(e.iter().map(|e| &e.of)),
    })
}

/// The experiment whose id begins like this, or whose name this is: of several of one name the one
/// that runs, else the newest. Where more than one can be meant, none is guessed.
pub async fn find(client: &Client, text: &str) -> Result<ExperimentId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let (list, ..) = list(client).await?;
    let known = list.iter().map(|e| (e.id, e.experiment.name.as_str(), e.is_running()));
    meant(&known.collect::<Vec<_>>(), text)
}

/// Of experiments in the order of their starts: id, name, and whether it runs.
fn meant(known: &[(ExperimentId, &str, bool)], text: &str) -> Result<ExperimentId, Failure> {
    let hex = text.replace('-', "").to_lowercase();
    let begins = |id: &ExperimentId| id.0.simple().to_string().starts_with(&hex);
    let named = || known.iter().filter(|(_, name, _)| *name == text);
    let mut meant: BTreeSet<ExperimentId> =
        named().filter(|(.., runs)| *runs).map(|(id, ..)| *id).collect();
    if meant.is_empty() {
        meant.extend(named().next_back().map(|(id, ..)| *id));
    }
    if !hex.is_empty() {
        meant.extend(known.iter().map(|(id, ..)| *id).filter(begins));
    }
    match meant.first() {
        Some(id) if meant.len() == 1 => Ok(*id),
        None => Err(Failure::usage(format!("no experiment `{text}`"), "squall ls lists them")),
        Some(_) => {
            let ids: Vec<String> = meant.iter().map(ToString::to_string).collect();
            Err(Failure::usage(
                format!("`{text}` may be any of {}", ids.join(", ")),
                "type the id of the one that is meant; squall ls tells them apart",
            ))
        }
    }
}

/// One experiment as the log has it.
pub async fn ask_show(client: &Client, id: ExperimentId) -> Result<Shown, Failure> {
    match client.read(&Request::Show(id)).await? {
        Response::Experiment(shown) => Ok(*shown),
        other => Err(odd(&Request::Show(id), &other)),
    }
}

/// `squall show`.
pub async fn show(client: &Client, id: &str, format: Format) -> Outcome {
    let id = find(client, id).await?;
    let shown = ask_show(client, id).await?;
    print(format, &ExperimentView::new(&shown), summary::page)
}

/// What `squall agent drain` left.
#[derive(Serialize)]
struct Drained {
    host: String,
    drained: bool,
    /// What experiments may still hold there.
    faults: Vec<FaultView>,
    /// It says itself that it holds none of them; `null` where it was put back.
    whole: Option<bool>,
}

impl Drained {
    fn line(&self) -> String {
        let host = &self.host;
        let faults: Vec<_> = self.faults.iter().map(|f| f.id.as_str()).collect();
        match self.whole {
            None => format!("{host} is in service again\n"),
            Some(true) => format!("{host} is drained, and holds nothing of experiments\n"),
            Some(false) if faults.is_empty() => {
                format!("{host} is drained, and was not seen whole: squall nodes\n")
            }
            Some(false) => format!("{host} is drained, and may still hold {}\n", faults.join(", ")),
        }
    }
}

/// `squall agent drain`: waits until what experiments hold there is gone.
pub async fn drain(client: &Client, host: &str, drained: bool, format: Format) -> Outcome {
    let host = host_name(host)?;
    let request = Request::Drain { command: command_id(), host: host.clone(), drained };
    client.write(&request).await?;
    let mut done = Drained { host: host.to_string(), drained, faults: Vec::new(), whole: None };
    if drained {
        talk(format!(
            "{host} takes no more faults of experiments; waiting until those that it holds are lifted"
        ));
        let began = Instant::now();
        while done.whole.is_none() {
            // Whoever does not answer now may do so later; the drain is in the log.
            if let Ok(status) = ask_status(client).await {
                // A new leader may not have heard it yet.
                let patient = began.elapsed() < HEARD;
                done.whole = status.is_whole(&host).filter(|whole| *whole || !patient);
                done.faults = held(&status);
                done.faults.retain(|f| f.host == host.as_str() && f.experiment.is_some());
            }
            if began.elapsed() > WHOLE {
                done.whole = done.whole.or(Some(false));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    let exit = if done.whole == Some(false) { Exit::NotClean } else { Exit::Held };
    exit.after(output::emit(format, &done, Drained::line))
}

/// What `squall agent forget` did.
#[derive(Serialize)]
struct Forgotten {
    forgotten: String,
}

/// `squall agent forget`.
pub async fn forget(client: &Client, host: &str, format: Format) -> Outcome {
    let host = host_name(host)?;
    let done = Forgotten { forgotten: host.to_string() };
    client.write(&Request::Forget { command: command_id(), host }).await?;
    talk("an agent with its certificate registers itself again, in service");
    print(format, &done, |done| format!("{} is forgotten\n", done.forgotten))
}

fn host_name(text: &str) -> Result<HostName, Failure> {
    text.parse().map_err(|e| Failure::usage(format!("{e}"), "squall nodes lists the hosts"))
}

/// What `squall resume` released.
#[derive(Serialize)]
struct Resumed {
    resumed: Vec<String>,
    /// No stop is outstanding; `null` where no quorum said so.
    armed: Option<bool>,
}

/// `squall resume`.
pub async fn resume(client: &Client, resume: &Resume, format: Format) -> Outcome {
    let despite: BTreeSet<HostName> =
        resume.despite.iter().map(|h| host_name(h)).collect::<Result<_, _>>()?;
    if let Some(strange) = unregistered(client, &despite).await {
        let what = format!("--despite {strange}: no such host is registered");
        return Err(Failure::usage(what, "squall nodes lists the hosts"));
    }
    let mut stops = named_stops(client, &resume.stops).await?;
    if stops.is_empty() {
        let status = ask_status(client).await?;
        if !status.confirmed {
            return Err(Failure::new(
                Exit::Unreachable,
                "no quorum of coordinators says which stops are outstanding",
                "squall status shows who answers; resume once a quorum is back",
            ));
        }
        let outstanding = status.outstanding;
        if outstanding.is_empty() {
            talk("nothing is stopped");
            return print(format, &Resumed { resumed: Vec::new(), armed: Some(true) }, |_| {
                String::new()
            });
        }
        confirm(&outstanding)?;
        stops.extend(outstanding);
    }
    let request = Request::Resume { command: command_id(), stops: stops.clone(), despite };
    client.write(&request).await?;
    let left = ask_status(client).await.ok().filter(|s| s.confirmed).map(|s| s.outstanding);
    let view = Resumed {
        resumed: stops.iter().map(ToString::to_string).collect(),
        armed: left.as_ref().map(Vec::is_empty),
    };
    print(format, &view, |view| match left.as_deref() {
        Some([]) => "armed: experiments may start again\n".to_owned(),
        Some(left) => {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            let resumed = view.resumed.join(", ");
            format!("released {resumed}; still stopped by {}\n", left.join(", "))
        }
        None => {
            let resumed = view.resumed.join(", ");
            format!("released {resumed}; no quorum says whether others are outstanding\n")
        }
    })
}

/// The stops whose ids these are, or the beginnings of outstanding ones.
async fn named_stops(client: &Client, texts: &[String]) -> Result<BTreeSet<StopId>, Failure> {
    let whole = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>();
    if let Ok(whole) = whole {
        return Ok(whole);
    }
    let outstanding = ask_status(client).await?.outstanding;
    texts.iter().map(|text| stop_meant(&outstanding, text)).collect()
}

/// A beginning is long enough that it is meant, not met: a resume clears only what its operator was shown.
fn stop_meant(outstanding: &[StopId], text: &str) -> Result<StopId, Failure> {
    const SHORTEST: usize = 4;
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let hex = text.replace('-', "").to_lowercase();
    let begins = |id: &&StopId| id.0.simple().to_string().starts_with(&hex);
    let meant: Vec<&StopId> = outstanding.iter().filter(begins).collect();
    match meant[..] {
        [id] if hex.len() >= SHORTEST => Ok(*id),
        [_, _, ..] if hex.len() >= SHORTEST => {
            let ids: Vec<String> = meant.iter().map(ToString::to_string).collect();
            let what = format!("`{text}` may be any of {}", ids.join(", "));
            Err(Failure::usage(what, "type more of the one that is meant"))
        }
        _ => Err(Failure::usage(
            format!(
                "`{text}` is not the id of a stop, nor its first {SHORTEST} digits or more while it \
                 is outstanding"
            ),
            "squall status lists those that are; squall resume STOP",
        )),
    }
}

/// One of these that the cluster does not know, where it answers.
async fn unregistered(client: &Client, named: &BTreeSet<HostName>) -> Option<HostName> {
    named.first()?;
    let status = ask_status(client).await.ok().filter(|status| status.confirmed)?;
    let known = |host: &HostName| status.hosts.iter().any(|h| h.host.name == *host);
    named.iter().find(|host| !known(host)).cloned()
}

/// A resume clears only what its operator was shown, so without names a person is asked.
fn confirm(outstanding: &[StopId]) -> Result<(), Failure> {
    let ids: Vec<_> = outstanding.iter().map(ToString::to_string).collect();
    let by_name = format!("squall resume {}", ids.join(" "));
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("stopped by {}", ids.join(", ")), by_name));
    }
    let _ = write!(std::io::stderr(), "stopped by {}\nrelease? [y/N] ", ids.join(", "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::usage("nothing was released", by_name))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_beginning_of_an_outstanding_stop_is_enough() {
        let id = |hex: &str| StopId(Uuid::parse_str(&format!("{hex:0<32}")).unwrap());
        let all = [id("6ed11"), id("6ed12"), id("abcdef")];
        for (text, found) in [
            ("6ed12", Some(all[1])),
            ("ABCD", Some(all[2])),
            ("6ed1", None),
            ("abc", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(stop_meant(&all, text).ok(), found, "{text}");
        }
        let gone = id("1234");
        assert_eq!(stop_meant(&all, &gone.to_string()).ok(), Some(gone), "the log has the word");
        let both = stop_meant(&all, "6ed1").unwrap_err();
        assert!(both.what.contains(&all[0].to_string()), "{both}");
        let none = stop_meant(&all, "7777").unwrap_err();
        assert!(none.next.starts_with("squall status lists"), "{none}");
    }

    #[test]
    fn a_name_means_what_runs_and_nothing_is_guessed() {
        let id = |hex: &str| ExperimentId(Uuid::parse_str(&format!("{hex:0<32}")).unwrap());
        let old = (id("a1"), "cut", true);
        let new = (id("db2"), "cut", false);
        let other = (id("db3"), "db", true);
        let newest = (id("c4"), "cut", false);
        let all = [old, new, other, newest];
        for (text, found) in [
            ("cut", Some(old.0)),
            ("a1", Some(old.0)),
            ("DB-2", Some(new.0)),
            ("db", None),
            ("d", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(meant(&all, text).ok(), found, "{text}");
        }
        assert_eq!(meant(&[new, newest], "cut").ok(), Some(newest.0));
        let both = meant(&[old, (id("a2"), "cut", true)], "cut").unwrap_err();
        assert!(both.what.contains(&old.0.to_string()), "{}", both.what);
    }
}
