//! Hosts that ask to join with a one-time token.

use std::future::Future;
use std::sync::Arc;

use squall_core::registry::{Command, Outcome};
use squall_wire::identity::Enrolment;
use squall_wire::transport::JoinRequest;
use squall_wire::{ClusterAuthority, Endpoint, GossipKey, Role};
use tokio::sync::Semaphore;

use crate::clock;
use crate::driver::new_command;
use crate::node::Node;
use crate::raft;

/// Joins that are judged and answered at once, at most. Others wait in the transport, which has its own
/// bound.
const MAX_UNDER_WAY: usize = 16;

/// Answers hosts that ask to join until the endpoint is closed.
pub(super) async fn serve(node: Arc<Node>, endpoint: Endpoint) {
    let next = || {
        let endpoint = endpoint.clone();
        async move { endpoint.accept_join().await }
    };
    bounded(MAX_UNDER_WAY, next, |request| answer(node.clone(), request)).await;
}

/// Works on what `next` gives until it gives nothing more, on so many at once and no more.
async fn bounded<T, N, W>(limit: usize, next: impl Fn() -> N, work: impl Fn(T) -> W)
where
    N: Future<Output = Option<T>>,
    W: Future<Output = ()> + Send + 'static,
{
    let under_way = Arc::new(Semaphore::new(limit));
    while let Ok(permit) = under_way.clone().acquire_owned().await
        && let Some(item) = next().await
    {
        let work = work(item);
        tokio::spawn(async move {
            work.await;
            drop(permit);
        });
    }
}

async fn answer(node: Arc<Node>, request: JoinRequest) {
    let (host, remote) = (request.host.clone(), request.remote);
    let answer = admit(&node, &request).await;
    let admitted = answer.is_ok();
    match request.answer(answer).await {
        Ok(()) if admitted => tracing::info!(%host, %remote, "a host joined"),
        Ok(()) => {}
        Err(error) => tracing::warn!(%host, %remote, %error, "a join was cut short"),
    }
}

/// Uses the token up, then signs: a token whose certificate got lost on the way is gone, and a new
/// one must be made. The token comes first: who has none costs no more than a look, and a quorum round
/// where this coordinator may not have heard of it yet.
async fn admit(node: &Arc<Node>, request: &JoinRequest) -> Result<Enrolment, String> {
    if !node.config.enrol {
        return Err("this coordinator does not enrol hosts".into());
    }
    if !is_good(node, request) {
        if !node.confirm().await.confirmed {
            return Err("no quorum answers: nobody can join now".into());
        }
        if !is_good(node, request) {
            return Err("the token is unknown, used, expired, or for another host".into());
        }
    }
    let dir = node.config.identity_dir.clone();
    let load = move || {
        let authority = ClusterAuthority::load(&dir).map_err(|_| {
            "this coordinator does not hold the cluster's authority: ask another".to_owned()
        })?;
        Ok::<_, String>((authority, GossipKey::load(&dir).map_err(|e| e.to_string())?))
    };
    let (authority, gossip) =
        tokio::task::spawn_blocking(load).await.map_err(|e| e.to_string())??;
    // Before the token is used up: what cannot be signed must not cost one.
    let name = request.host.as_str();
    let certificate =
        authority.sign_csr(&request.csr, Role::Agent, name).map_err(|e| e.to_string())?;
    let command = Command::UseToken { hash: request.hash, host: request.host.clone() };
    let entry = raft::entry(new_command(), &format!("agent/{name}"), command);
    match node.propose_anywhere(entry).await? {
        Outcome::Done(_) => {
            Ok(Enrolment { certificate, authority: authority.certificate_pem(), gossip })
        }
        Outcome::Unchanged => Err("the token was used already".into()),
        Outcome::Refused(refusal) => Err(refusal.to_string()),
    }
}

/// Whether the token is good, as far as this coordinator has heard.
fn is_good(node: &Node, request: &JoinRequest) -> bool {
    let token = node.applied.read(|r| r.tokens.get(&request.hash).cloned());
    token.is_some_and(|t| t.host == request.host && clock::wall() < t.expires)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_so_many_are_worked_on_at_once() {
        let (given, at_once, most) = <(AtomicUsize, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let next = || {
            let n = given.fetch_add(1, Ordering::Relaxed);
            async move { (n < 20).then_some(()) }
        };
        let work = |()| {
            let (at_once, most) = (at_once.clone(), most.clone());
            async move {
                most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                at_once.fetch_sub(1, Ordering::Relaxed);
            }
        };
        bounded(3, next, work).await;
        assert_eq!(most.load(Ordering::Relaxed), 3);
    }
}
