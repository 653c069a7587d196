//! Asking the coordinators: every one of them, whoever leads, the same command any number of times.
//!
//! A write carries its id, so that it may be repeated until somebody answers; where nobody does, it
//! is unknown, never absent, and the person is told so.

pub mod cluster_dir;
mod writes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use squall_core::hold::CONTROL_MARK;
use squall_core::ids::{Coordinator, LogIndex};
use squall_core::message::{Request, Response};
use squall_core::registry::Refusal;
use squall_wire::{Channel, Connection, Endpoint, EndpointOptions, Role, WireError};

use crate::exit::{Exit, Failure};
use cluster_dir::ClusterDir;

/// How long one coordinator has to answer one question.
pub const ANSWER: Duration = Duration::from_secs(6);
/// After the first answer that no quorum stands behind: how long the others have for a better one.
const BETTER: Duration = Duration::from_millis(1_500);

/// An operator's view of one cluster.
#[derive(Debug)]
pub struct Client {
    /// Where it is described.
    pub dir: ClusterDir,
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

/// What one coordinator said, or why it did not.
pub type Said = (Coordinator, Result<Response, WireError>);

impl Client {
    /// Reads the operator's identity and binds its sockets.
    ///
    /// # Errors
    /// The identity or a socket cannot be used.
    pub fn open(dir: ClusterDir) -> Result<Client, Failure> {
        let wants = |v4: bool| dir.file.coordinators.iter().any(|c| c.address.is_ipv4() == v4);
        let bind = |any: IpAddr| -> Result<Endpoint, Failure> {
            let options = EndpointOptions {
                role: Role::Operator,
                bind: SocketAddr::new(any, 0),
                mark: Some(CONTROL_MARK),
            };
            Endpoint::bind(dir.operator()?, options)
                .map_err(|e| Failure::local(e.to_string(), "check this host's network"))
        };
        let v4 = wants(true).then(|| bind(Ipv4Addr::UNSPECIFIED.into())).transpose()?;
        let v6 = wants(false).then(|| bind(Ipv6Addr::UNSPECIFIED.into())).transpose()?;
        Ok(Client { dir, v4, v6 })
    }

    /// A connection to one coordinator.
    async fn connect(&self, member: &Coordinator) -> Result<Connection, WireError> {
        let endpoint = if member.address.is_ipv4() { &self.v4 } else { &self.v6 };
        let endpoint = endpoint.as_ref().ok_or_else(|| {
            WireError::Lost(format!("no socket for the address family of {}", member.address))
        })?;
        endpoint.connect(member.address, Role::Coordinator, member.name.as_str()).await
    }

    /// A channel to one coordinator with the question on it.
    pub(crate) async fn start(
        &self,
        member: &Coordinator,
        request: &Request,
    ) -> Result<(Connection, Channel), WireError> {
        let connection = self.connect(member).await?;
        let mut channel = connection.open().await?;
        channel.send(request).await?;
        Ok((connection, channel))
    }

    /// One question to one coordinator, one answer.
    async fn ask_one(
        &self,
        member: &Coordinator,
        request: &Request,
    ) -> Result<Response, WireError> {
        let exchange = async {
            let (connection, mut channel) = self.start(member, request).await?;
            let answer = channel.recv().await?.ok_or(WireError::ChannelOver);
            connection.close("answered");
            answer
        };
        let late = WireError::Unanswered { address: member.address, after: ANSWER };
        tokio::time::timeout(ANSWER, exchange).await.unwrap_or(Err(late))
    }

    /// The same question to all coordinators at once, each with its own answer.
    fn ask_all<'a>(
        &'a self,
        request: &'a Request,
    ) -> impl Iterator<Item = impl Future<Output = Said> + 'a> + 'a {
        self.dir
            .file
            .coordinators
            .iter()
            .map(move |member| async move { (member.clone(), self.ask_one(member, request).await) })
    }

    /// What every coordinator says by itself.
    pub async fn read_each(&self, request: &Request) -> Vec<Said> {
        futures_util::future::join_all(self.ask_all(request)).await
    }

    /// A read: every coordinator is asked at once. The first answer with a quorum behind it is
    /// taken; where none comes, the newest one.
    ///
    /// # Errors
    /// Nobody answered, or whoever did refused.
    pub async fn read(&self, request: &Request) -> Result<Response, Failure> {
        let mut answers: FuturesUnordered<_> = self.ask_all(request).collect();
        let mut rest: Vec<Said> = Vec::new();
        let mut patience = ANSWER;
        loop {
            match tokio::time::timeout(patience, answers.next()).await {
                Ok(Some((_, Ok(answer)))) if standing(&answer) == Standing::Quorum => {
                    return Ok(answer);
                }
                Ok(Some((member, said))) => {
                    if said.as_ref().is_ok_and(|a| matches!(standing(a), Standing::Alone(_))) {
                        patience = BETTER;
                    }
                    rest.push((member, said));
                }
                Ok(None) | Err(_) => break,
            }
        }
        best(rest)
    }

    /// Closes the sockets and waits until the coordinators were told.
    pub async fn close(&self) {
        for endpoint in [&self.v4, &self.v6].into_iter().flatten() {
            endpoint.close();
            // They forget this client by themselves soon enough.
            let _ = tokio::time::timeout(Duration::from_millis(200), endpoint.drained()).await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A quorum stands behind the answer, or it is final for another reason.
    Quorum,
    /// One coordinator's own knowledge, as of an entry.
    Alone(LogIndex),
    /// Not an answer to the question.
    None,
}

fn standing(answer: &Response) -> Standing {
    let by = |confirmed: bool, applied: LogIndex| {
        if confirmed { Standing::Quorum } else { Standing::Alone(applied) }
    };
    match answer {
        Response::Status(s) => by(s.confirmed, s.applied),
        Response::Views(v) => by(v.confirmed, v.applied),
        Response::Experiment(e) => by(e.confirmed, e.applied),
        Response::Experiments { confirmed, applied, .. } => by(*confirmed, *applied),
        // Another one may hear hosts that this one does not.
        Response::Plan(plan) if matches!(plan.refusal, Some(Refusal::OutOfService(_))) => {
            Standing::Alone(LogIndex(0))
        }
        Response::Plan(_) | Response::Outcome(_) | Response::Stop(_) => Standing::Quorum,
        Response::Refused(_) | Response::TooLarge => Standing::Alone(LogIndex(0)),
        Response::NotLeader(_) | Response::NoQuorum(_) => Standing::None,
    }
}

/// The newest of answers without a quorum, or what went wrong with all of them.
fn best(mut said: Vec<Said>) -> Result<Response, Failure> {
    let rank = |(_, said): &Said| match said.as_ref().map(standing) {
        Ok(Standing::Alone(applied)) => Some(applied),
        Ok(Standing::Quorum | Standing::None) | Err(_) => None,
    };
    let newest =
        (0..said.len()).filter(|i| rank(&said[*i]).is_some()).max_by_key(|i| rank(&said[*i]));
    if let Some(newest) = newest
        && let (_, Ok(answer)) = said.swap_remove(newest)
    {
        return match answer {
            Response::Refused(refusal) => Err(Failure::refused(&refusal)),
            Response::TooLarge => Err(Failure::local(
                "the answer has no room in one frame of 4 MiB",
                "squall ls and squall show ID ask for less; stop and stop-all work all the same",
            )),
            other => Ok(other),
        };
    }
    Err(nobody(&said))
}

/// Whether a coordinator will not speak to this operator.
pub(crate) fn is_refusal(said: &Result<Response, WireError>) -> bool {
    matches!(said, Err(WireError::RefusedByPeer { .. })) || is_final(said)
}

/// Whether it will never speak to this operator: not after a restart either.
pub(crate) fn is_final(said: &Result<Response, WireError>) -> bool {
    matches!(said, Err(WireError::NotOfRole { .. }))
}

/// Nobody gave an answer that helps.
pub(crate) fn nobody(said: &[Said]) -> Failure {
    let why = |said: &Result<Response, WireError>| match said {
        Ok(Response::NoQuorum(why)) => format!("no quorum: {why}"),
        Ok(Response::NotLeader(_)) => "knows no leader that answers".to_owned(),
        Ok(_) => "gave an answer to another question".to_owned(),
        Err(error) => error.to_string(),
    };
    let line =
        |(member, said): &Said| format!("{} ({}): {}", member.name, member.address, why(said));
    let lines: Vec<String> = said.iter().map(line).collect();
    let any = |is: fn(&Result<Response, WireError>) -> bool| said.iter().any(|(_, said)| is(said));
    let (what, next) = if any(is_refusal) && !any(Result::is_ok) {
        (
            "the coordinators refuse this operator",
            "use an operator's identity of this cluster that has not expired: --cluster DIR, as squall init wrote it",
        )
    } else if any(|said| matches!(said, Ok(Response::NoQuorum(_) | Response::NotLeader(_)))) {
        (
            "no quorum of coordinators answered",
            "squall status shows who answers; squall stop-all works without a quorum",
        )
    } else {
        (
            "no coordinator answered",
            "check --cluster DIR (or SQUALL_CLUSTER), the network, and that squall coordinator runs",
        )
    };
    Failure::new(Exit::Unreachable, format!("{what}\n  {}", lines.join("\n  ")), next).with_hosts(
        "what is held there ends by itself: at its time, or with its lease where no quorum renews it",
    )
}

#[cfg(test)]
mod tests;
