//! The agent's side of the socket.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use squall_core::host::Host;
use squall_core::ids::{ExperimentId, FaultId, HostName};
use squall_core::message::{FaultReport, HostPhase};
use squall_core::time::Time;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::{Answer, Ask, LEASE_MS, SOCKET};

/// A longer line is not ours.
const MAX_LINE: u64 = 1024 * 1024;
/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// The pause after a connection that could not be taken.
const RETRY: Duration = Duration::from_millis(100);

/// What happened on the socket.
#[derive(Debug)]
pub(crate) enum Local {
    /// With the process that connected, where it can be seen from here.
    Came(u64, mpsc::UnboundedSender<Answer>, Option<i32>),
    Asked(u64, Box<Ask>),
    Left(u64),
}

/// The socket of this agent. Dropping it closes and removes it.
pub(crate) struct Listening {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket was gone already");
        }
    }
}

/// Listens in `run_dir`. Only root and the agent's own user may connect.
///
/// # Errors
/// The socket cannot be made, or another agent answers there.
pub(crate) fn listen(run_dir: &Path, events: mpsc::Sender<Local>) -> io::Result<Listening> {
    use std::os::unix::fs::PermissionsExt;
    squall_journal::make_private_dir(run_dir)?;
    let path = run_dir.join(SOCKET);
    // An agent with another state directory may live here too; one that died left its socket.
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        let what = format!("{} is another agent's, which runs", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listening { path, task: tokio::spawn(accept(listener, events)) })
}

async fn accept(listener: UnixListener, events: mpsc::Sender<Local>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut next = 0;
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: others close theirs.
                tracing::warn!(%error, "no local connection can be taken now");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        next += 1;
        let (number, events) = (next, events.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = serve(number, stream, &events).await {
                tracing::debug!(%error, "a local connection ended badly");
            }
            let _ = events.send(Local::Left(number)).await;
        });
    }
}

async fn serve(number: u64, stream: UnixStream, events: &mpsc::Sender<Local>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    // Before the socket got its mode anybody might have connected.
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {}", peer.uid()),
        ));
    }
    // Of a process outside of this one's pid namespace the kernel says 0.
    let asker = peer.pid().filter(|pid| *pid > 0);
    let (read, mut write) = stream.into_split();
    let (answers, mut outbox) = mpsc::unbounded_channel::<Answer>();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    events.send(Local::Came(number, answers, asker)).await.map_err(gone)?;
    let mut lines = BufReader::new(read.take(MAX_LINE)).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let ask = serde_json::from_str(&line)?;
                events.send(Local::Asked(number, Box::new(ask))).await.map_err(gone)?;
                lines.get_mut().get_mut().set_limit(MAX_LINE);
            }
            answer = outbox.recv() => {
                let Some(answer) = answer else { return Ok(()) };
                let mut line = serde_json::to_vec(&answer)?;
                line.push(b'\n');
                write.write_all(&line).await?;
            }
        }
    }
}

struct Person {
    answers: mpsc::UnboundedSender<Answer>,
    asker: Option<i32>,
    fault: Option<FaultId>,
    told: Option<FaultReport>,
    waits_for_all: bool,
}

/// All persons that are connected.
pub(crate) struct Locals {
    me: HostName,
    persons: BTreeMap<u64, Person>,
    had_somebody: bool,
}

impl Locals {
    pub(crate) fn new(me: HostName) -> Locals {
        Locals { me, persons: BTreeMap::new(), had_somebody: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.persons.is_empty()
    }

    /// Whether anybody ever connected.
    pub(crate) fn had_somebody(&self) -> bool {
        self.had_somebody
    }

    /// Passes on what a person said.
    pub(crate) fn handle(&mut self, now: Time, event: Local, host: &mut Host) {
        match event {
            Local::Came(number, answers, asker) => {
                let person =
                    Person { answers, asker, fault: None, told: None, waits_for_all: false };
                self.persons.insert(number, person);
                self.had_somebody = true;
            }
            Local::Left(number) => {
                if let Some(id) = self.persons.remove(&number).and_then(|p| p.fault) {
                    host.handle_local_lift(now, &id);
                }
            }
            Local::Asked(number, ask) => {
                if let Some(person) = self.persons.get_mut(&number) {
                    person.ask(now, &self.me, *ask, host);
                }
            }
        }
    }

    /// Tells every person what has changed for them.
    pub(crate) fn tell(&mut self, now: Time, host: &mut Host) {
        if self.persons.is_empty() {
            return;
        }
        let report = host.report(now);
        for person in self.persons.values_mut() {
            let of_person = report.faults.iter().find(|f| Some(&f.id) == person.fault.as_ref());
            if let Some(fault) = of_person {
                let same = person.told.as_ref().is_some_and(|told| {
                    told.phase == fault.phase && told.achieved == fault.achieved
                });
                if !same {
                    person.told = Some(fault.clone());
                    person.answer(Answer::Fault(Box::new(fault.clone())));
                }
                if fault.phase.is_gone() {
                    host.take_ended(&fault.id);
                    person.fault = None;
                }
            }
            if person.waits_for_all && (host.is_idle() || report.faults.iter().all(is_final)) {
                person.waits_for_all = false;
                person.answer(Answer::Faults(report.faults.clone()));
            }
        }
    }
}

fn is_final(fault: &FaultReport) -> bool {
    fault.phase.is_gone() || fault.phase == HostPhase::Stuck
}

impl Person {
    fn answer(&self, answer: Answer) {
        // A person who left is noticed by the end of the stream.
        let _ = self.answers.send(answer);
    }

    fn ask(&mut self, now: Time, me: &HostName, ask: Ask, host: &mut Host) {
        match ask {
            Ask::Inject { .. } if self.fault.is_some() => self.answer(Answer::Refused {
                reason: "one fault a connection: open another".into(),
                by_safety: false,
            }),
            Ask::Inject { fault, duration_ms } => {
                let experiment = ExperimentId::local(rand::random());
                let id = FaultId { experiment, fault: 0, host: me.clone() };
                match host.handle_local(now, id.clone(), fault, LEASE_MS, duration_ms, self.asker) {
                    Ok(()) => self.fault = Some(id),
                    Err(refusal) => {
                        let by_safety = refusal.by_safety();
                        self.answer(Answer::Refused { reason: refusal.to_string(), by_safety });
                    }
                }
            }
            Ask::Renew => {
                if let Some(id) = &self.fault {
                    host.handle_local_renew(now, id);
                }
            }
            Ask::Lift => {
                if let Some(id) = &self.fault {
                    host.handle_local_lift(now, id);
                }
            }
            Ask::LiftAll => {
                host.handle_lift_all(now);
                self.waits_for_all = true;
            }
            Ask::Faults => self.answer(Answer::Faults(host.report(now).faults)),
        }
    }
}
