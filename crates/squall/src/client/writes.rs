//! Changing something: every coordinator is asked, again and again, until one of them says what
//! became of it. The command's id makes that harmless: it takes effect once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use squall_core::ids::{Coordinator, NodeId};
use squall_core::message::{Request, Response};
use squall_core::registry::Outcome;

use super::{Client, Said, is_final, is_refusal, nobody};
use crate::exit::Failure;

/// How long a write is repeated: longer than two fail-overs.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between an answer and the next question to the same coordinator.
const GAP: Duration = Duration::from_millis(300);

impl Client {
    /// A write with its command id inside. Each coordinator is asked again as soon as it has answered
    /// that it cannot, whatever the others do: one that has just died stays silent for longer than
    /// another one needs to lead.
    ///
    /// # Errors
    /// It was refused, nobody may ask it, or nobody answered: then it may or may not take effect.
    pub async fn write(&self, request: &Request) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let ask = |member: Coordinator, pause: Duration| async move {
            tokio::time::sleep(pause).await;
            let answer = self.ask_one(&member, request).await;
            (member, answer)
        };
        let members = &self.dir.file.coordinators;
        let mut asking: FuturesUnordered<_> =
            members.iter().map(|member| ask(member.clone(), Duration::ZERO)).collect();
        let mut said = BTreeMap::<NodeId, Said>::new();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let Ok(Some((member, answer))) = tokio::time::timeout(left, asking.next()).await else {
                let said: Vec<Said> = said.into_values().collect();
                let refused =
                    said.len() == members.len() && said.iter().all(|(_, s)| is_refusal(s));
                return Err(if refused { nobody(&said) } else { unknown(&said, began.elapsed()) });
            };
            match answer {
                Ok(Response::Outcome(Outcome::Refused(refusal)) | Response::Refused(refusal)) => {
                    return Err(Failure::refused(&refusal));
                }
                Ok(Response::Outcome(outcome)) => return Ok(outcome),
                other => said.insert(member.id, (member.clone(), other)),
            };
            if said.len() == members.len() && said.values().all(|(_, s)| is_final(s)) {
                return Err(nobody(&said.into_values().collect::<Vec<_>>()));
            }
            asking.push(ask(member, GAP));
        }
    }
}

fn unknown(said: &[Said], after: Duration) -> Failure {
    let failure = nobody(said);
    let hosts = format!("it may or may not take effect once a quorum is back; {}", failure.hosts);
    let what = format!("{}\n  tried for {} s", failure.what, after.as_secs());
    Failure { what, hosts, ..failure }
}
