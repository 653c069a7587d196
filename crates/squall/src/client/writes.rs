//! Changing something: every coordinator is asked at once, again and again, until one of them says
//! what became of it. The command's id makes that harmless: it takes effect once.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use squall_core::message::{Request, Response};
use squall_core::registry::Outcome;

use super::{Client, Said, nobody};
use crate::exit::Failure;

/// How long a write is repeated: longer than two fail-overs.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two rounds of trying.
const GAP: Duration = Duration::from_millis(300);

impl Client {
    /// A write with its command id inside.
    ///
    /// # Errors
    /// It was refused, nobody may ask it, or nobody answered: then it may or may not take effect.
    pub async fn write(&self, request: &Request) -> Result<Outcome, Failure> {
        let began = Instant::now();
        loop {
            let mut said: Vec<Said> = Vec::new();
            let mut answers = self.ask_all(request).collect::<FuturesUnordered<_>>();
            while let Some((member, answer)) = answers.next().await {
                match answer {
                    Ok(
                        Response::Outcome(Outcome::Refused(refusal)) | Response::Refused(refusal),
                    ) => {
                        return Err(Failure::refused(&refusal));
                    }
                    Ok(Response::Outcome(outcome)) => return Ok(outcome),
                    other => said.push((member, other)),
                }
            }
            let forbidden = said.iter().all(|(_, a)| matches!(a, Ok(Response::Forbidden(_))));
            if forbidden {
                return Err(nobody(&said));
            }
            if began.elapsed() >= PATIENCE {
                return Err(unknown(&said, began.elapsed()));
            }
            tokio::time::sleep(GAP).await;
        }
    }
}

fn unknown(said: &[Said], after: Duration) -> Failure {
    let failure = nobody(said);
    let hosts = format!("it may or may not take effect once a quorum is back; {}", failure.hosts);
    let what = format!("{}\n  tried for {} s", failure.what, after.as_secs());
    Failure { what, hosts, ..failure }
}
