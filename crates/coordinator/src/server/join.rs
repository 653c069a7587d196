//! Hosts that ask to join with a one-time token.

use std::sync::Arc;

use squall_core::registry::{Command, Outcome};
use squall_wire::identity::Enrolment;
use squall_wire::transport::JoinRequest;
use squall_wire::{ClusterAuthority, Endpoint, GossipKey, Role};

use crate::clock;
use crate::driver::new_command;
use crate::node::Node;
use crate::raft;

/// Answers hosts that ask to join until the endpoint is closed.
pub(super) async fn serve(node: Arc<Node>, endpoint: Endpoint) {
    while let Some(request) = endpoint.accept_join().await {
        let node = node.clone();
        tokio::spawn(async move {
            let (host, remote) = (request.host.clone(), request.remote);
            let answer = admit(&node, &request).await;
            let admitted = answer.is_ok();
            match request.answer(answer).await {
                Ok(()) if admitted => tracing::info!(%host, %remote, "a host joined"),
                Ok(()) => {}
                Err(error) => tracing::warn!(%host, %remote, %error, "a join was cut short"),
            }
        });
    }
}

/// Uses the token up, then signs: a token whose certificate got lost on the way is gone, and a new
/// one must be made.
async fn admit(node: &Arc<Node>, request: &JoinRequest) -> Result<Enrolment, String> {
    if !node.config.enrol {
        return Err("this coordinator does not enrol hosts".into());
    }
    let dir = &node.config.identity_dir;
    let authority = ClusterAuthority::load(dir).map_err(|_| {
        "this coordinator does not hold the cluster's authority: ask another".to_owned()
    })?;
    let gossip = GossipKey::load(dir).map_err(|e| e.to_string())?;
    if !node.confirm().await.confirmed {
        return Err("no quorum answers: nobody can join now".into());
    }
    let token = node.applied.read(|r| r.tokens.get(&request.hash).cloned());
    let good = token.is_some_and(|t| t.host == request.host && clock::wall() < t.expires);
    if !good {
        return Err("the token is unknown, used, expired, or for another host".into());
    }
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
