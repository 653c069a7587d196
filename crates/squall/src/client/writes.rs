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
use crate::output::talk;

/// How long a write is repeated: longer than two fail-overs.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a write may take before a word is lost over it.
const QUIET: Duration = Duration::from_secs(2);
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
        let mut quiet = true;
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let next = tokio::select! {
                next = tokio::time::timeout(left, asking.next()) => next,
                () = tokio::time::sleep(QUIET.saturating_sub(began.elapsed())), if quiet => {
                    quiet = false;
                    talk(waiting(members, &said, PATIENCE.saturating_sub(began.elapsed())));
                    continue;
                }
            };
            let Ok(Some((member, answer))) = next else {
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

/// Who answers so far, without a quorum, and who does not.
fn waiting(members: &[Coordinator], said: &BTreeMap<NodeId, Said>, left: Duration) -> String {
    let answers = |member: &&Coordinator| said.get(&member.id).is_some_and(|(_, s)| s.is_ok());
    let (some, others): (Vec<_>, Vec<_>) = members.iter().partition(answers);
    let names =
        |of: &[&Coordinator]| of.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let who = match (some.is_empty(), others.is_empty()) {
        (true, _) => "no coordinator answers yet".to_owned(),
        (false, true) => format!("no quorum yet (answers: {})", names(&some)),
        (false, false) => {
            format!("no quorum yet (answers: {}; does not: {})", names(&some), names(&others))
        }
    };
    let stop = if some.is_empty() { "" } else { "; squall stop-all needs no quorum" };
    format!("{who}{stop}; trying for {} s more", left.as_secs())
}

fn unknown(said: &[Said], after: Duration) -> Failure {
    let failure = nobody(said);
    let hosts = format!("it may or may not take effect once a quorum is back; {}", failure.hosts);
    let what = format!("{}\n  tried for {} s", failure.what, after.as_secs());
    Failure { what, hosts, ..failure }
}

#[cfg(test)]
mod tests {
    use squall_wire::WireError;

    use super::*;

    #[test]
    fn who_waits_for_a_quorum_hears_who_answers() {
        let member = |id: u64| Coordinator {
            id: NodeId(id),
            name: format!("c{id}").parse().unwrap(),
            address: ([127, 0, 0, 1], 7443).into(),
        };
        let members = [1, 2, 3].map(member);
        let mut said = BTreeMap::new();
        let line = |said: &BTreeMap<NodeId, Said>| waiting(&members, said, PATIENCE - QUIET);
        assert_eq!(line(&said), "no coordinator answers yet; trying for 13 s more");
        said.insert(NodeId(1), (member(1), Err(WireError::ChannelOver)));
        said.insert(NodeId(3), (member(3), Ok(Response::NoQuorum("none".into()))));
        assert!(line(&said).starts_with("no quorum yet (answers: c3; does not: c1, c2)"));
        assert!(line(&said).ends_with("trying for 13 s more"), "{}", line(&said));
    }
}
