//! Those who write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use squall_core::ids::CommandId;
use squall_core::message::{Request, Response};
use squall_core::registry::Outcome;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::Crowd;
use crate::failover::history::{Answer, Call, now_us};

/// A writer's pause.
const PAUSE: Duration = Duration::from_millis(30);
/// How long a patient writer waits for one answer, and for all of them.
pub(super) const ROUND: Duration = Duration::from_millis(1_500);
const PATIENCE_US: u64 = 12_000_000;
/// How often a patient writer sends each command to each coordinator at once, and how often it asks
/// again after the first answer.
const COPIES: usize = 2;
const MORE: u32 = 8;
/// How long a hasty writer waits, and how often it goes where it is sent.
const HASTE: Duration = Duration::from_millis(1_200);
const HOPS: usize = 3;
/// A hasty writer's pause after an unknown.
const RELIEF: Duration = Duration::from_millis(600);

impl Crowd {
    fn any_write(&self) -> Call {
        let register = rand::random_range(0..self.orders.hosts.len());
        Call::Set { register, value: rand::random(), command: Uuid::from_u128(rand::random()) }
    }

    /// A write as it is sent; a read is asked in another way.
    pub(super) fn drain(&self, call: Call) -> Option<Request> {
        let Call::Set { register, value: drained, command } = call else { return None };
        let host = self.orders.hosts[register].clone();
        Some(Request::Drain { command: CommandId(command), host, drained })
    }

    pub(super) async fn patient(self: Arc<Self>, n: usize) {
        while !self.is_over() {
            let call = self.any_write();
            self.insist(&format!("patient {n}"), call).await;
            sleep(PAUSE).await;
        }
    }

    /// Repeats a write at every coordinator, twice at once at each, until one of them says what
    /// became of it. The others go on for a while: their answers are compared.
    pub(super) async fn insist(self: &Arc<Self>, who: &str, call: Call) -> bool {
        let invoked = now_us();
        let answer = self.demand(call).await;
        self.note(who.to_owned(), call, invoked, answer);
        answer != Answer::Unknown
    }

    /// The same, without a record.
    pub(super) async fn demand(self: &Arc<Self>, call: Call) -> Answer {
        let Some(request) = self.drain(call) else { return Answer::Failed };
        let began = now_us();
        let (answers, mut next) = mpsc::channel(COPIES * self.writes.count());
        let (known, is_known) = watch::channel(false);
        for at in (0..self.writes.count()).flat_map(|at| [at; COPIES]) {
            let (crowd, request, answers) = (self.clone(), request.clone(), answers.clone());
            let is_known = is_known.clone();
            tokio::spawn(async move {
                let mut more = 0;
                while more < MORE && now_us() - began < PATIENCE_US {
                    if let Ok(Response::Outcome(o)) = crowd.writes.ask(at, &request, ROUND).await {
                        let _ = answers.send((at, o)).await;
                        return;
                    }
                    more += u32::from(*is_known.borrow());
                    sleep(PAUSE).await;
                }
            });
        }
        drop(answers);
        let Some((_, first)) = next.recv().await else { return Answer::Unknown };
        known.send_replace(true);
        let answer = answer(&first);
        tokio::spawn(self.clone().compare(call, first, next));
        answer
    }

    /// Every further answer must be the first one again.
    async fn compare(
        self: Arc<Self>,
        call: Call,
        first: Outcome,
        mut next: mpsc::Receiver<(usize, Outcome)>,
    ) {
        while let Some((at, other)) = next.recv().await {
            let mut found = self.found();
            found.compared += 1;
            if other != first {
                let name = self.writes.name(at);
                found.differing.push(format!("{call:?}: first {first:?}, {name} says {other:?}"));
            }
        }
    }

    pub(super) async fn hasty(self: Arc<Self>, n: usize) {
        while !self.is_over() {
            let call = self.any_write();
            let invoked = now_us();
            let (at, answer) = self.once(call).await;
            let who = format!("hasty {n} at {}", self.writes.name(at));
            self.note(who, call, invoked, answer);
            sleep(if answer == Answer::Unknown { RELIEF } else { PAUSE }).await;
        }
    }

    /// Asks whoever is believed to lead, and whom that one names. Returns who was asked last.
    async fn once(&self, call: Call) -> (usize, Answer) {
        let mut at = self.believed.load(Ordering::Relaxed);
        let Some(request) = self.drain(call) else { return (at, Answer::Failed) };
        let mut sent = false;
        for _ in 0..HOPS {
            match self.writes.ask(at, &request, HASTE).await {
                Ok(Response::Outcome(outcome)) => {
                    self.believed.store(at, Ordering::Relaxed);
                    return (at, answer(&outcome));
                }
                Ok(Response::NotLeader(Some((id, _)))) => {
                    sent = true;
                    at = usize::try_from(id.0).unwrap_or(1) - 1;
                }
                Ok(_) => {
                    sent = true;
                    break;
                }
                Err(silence) => {
                    sent |= silence.sent;
                    break;
                }
            }
        }
        let other = rand::random_range(0..self.writes.count());
        self.believed.store(other, Ordering::Relaxed);
        (at, if sent { Answer::Unknown } else { Answer::Failed })
    }

    /// Writes as fast as it goes, until all writers together were answered so often.
    pub(super) async fn burst(self: Arc<Self>, n: usize, enough: u64) {
        while self.answered.load(Ordering::Relaxed) < enough {
            let call = self.any_write();
            let invoked = now_us();
            let (at, answer) = self.once(call).await;
            match answer {
                Answer::Unknown | Answer::Failed => sleep(PAUSE).await,
                Answer::Changed(_) | Answer::Unchanged | Answer::Saw { .. } => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.note(format!("burst {n} at {}", self.writes.name(at)), call, invoked, answer);
        }
    }
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Done(index) => Answer::Changed(index.0),
        Outcome::Unchanged => Answer::Unchanged,
        Outcome::Refused(_) => Answer::Failed,
    }
}
