//! Enrolment: how a host without a certificate gets one.
//!
//! The host knows a secret and the fingerprint of the authority, both from its token. It connects
//! with the protocol `squall-join/1`, where the server asks for no certificate, believes the server
//! only if that shows the authority's certificate and one that it issued to a coordinator, and sends
//! the secret with a signing request. Private keys never travel.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use tokio::sync::mpsc;

use super::judge::Expected;
use super::quic::dial;
use super::{Channel, Greeting, Reason, Refusals, hello, marked_udp};
use crate::WireError;
use crate::codec::WIRE_VERSION;
use crate::identity::{Enrolment, GossipKey, Identity, IdentityError, JoinToken, make_csr, sha256};

/// Bytes of one frame of this exchange, at most.
const MAX_JOIN_FRAME: usize = 16 * 1024;
/// How long the host waits for its certificate, and the server for the question.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the server waits until a host that it refused has read that.
const REFUSED: Duration = Duration::from_secs(1);
/// The name in the handshake; whom the host believes is decided by fingerprint.
const JOIN_NAME: &str = "join.squall";

#[derive(Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) host: HostName,
    pub(super) secret: [u8; 32],
    pub(super) csr: String,
}

type Answer = Result<Enrolment, String>;

/// A host that asks to join. Whether its secret is good is for the caller to know; dropping this
/// refuses it without a reason.
#[derive(Debug)]
pub struct JoinRequest {
    /// The name that it wants. Issue for the name that the token was made for.
    pub host: HostName,
    /// SHA-256 of the secret that it showed.
    pub hash: [u8; 32],
    /// Its signing request, PEM, for [`crate::ClusterAuthority::sign_csr`].
    pub csr: String,
    /// Where it is.
    pub remote: SocketAddr,
    channel: Channel,
    connection: quinn::Connection,
    refusals: Refusals,
}

impl JoinRequest {
    /// Lets the host in, and waits up to ten seconds until it has the answer; or says why not, logs and
    /// counts that, and waits up to one. Whoever does not read keeps nobody longer.
    ///
    /// # Errors
    /// The host may not have got the answer.
    pub async fn answer(mut self, answer: Result<Enrolment, String>) -> Result<(), WireError> {
        let patience = if let Err(why) = &answer {
            self.refusals.note(self.remote, Reason::Join, &format!("{}: {why}", self.host));
            REFUSED
        } else {
            ANSWER
        };
        let told = async {
            self.channel.send::<Answer>(&answer).await?;
            self.channel.finish();
            // The host closes when it has read; a close from here could overtake the answer.
            self.connection.closed().await;
            Ok(())
        };
        tokio::time::timeout(patience, told)
            .await
            .unwrap_or_else(|_| Err(WireError::Lost("the host did not confirm".to_owned())))
    }
}

fn channel(streams: (quinn::SendStream, quinn::RecvStream)) -> Channel {
    use super::stream::{ReadHalf, WriteHalf};
    Channel::new(WriteHalf::Quic(streams.0), ReadHalf::Quic(streams.1), MAX_JOIN_FRAME)
}

/// The server's part up to the question.
pub(super) async fn serve(
    connection: quinn::Connection,
    version: u16,
    refusals: &Refusals,
    requests: &mpsc::Sender<JoinRequest>,
) -> Result<(), WireError> {
    let remote = connection.remote_address();
    let lost = |e: quinn::ConnectionError| WireError::Lost(e.to_string());
    let exchange = async {
        let greeted = channel(connection.accept_bi().await.map_err(lost)?);
        hello::answer(greeted, version, None, remote).await?;
        let mut channel = channel(connection.accept_bi().await.map_err(lost)?);
        let ask: Ask = channel.recv().await?.ok_or(WireError::ChannelOver)?;
        Ok::<_, WireError>((channel, ask))
    };
    let refuse = |reason, detail: &str| WireError::Refused {
        address: remote,
        reason,
        detail: format!("join: {detail}"),
    };
    let (channel, ask) = match tokio::time::timeout(ANSWER, exchange).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(error @ WireError::Version { .. })) => {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.closed()).await;
            return Err(error);
        }
        Ok(Err(error)) => return Err(refuse(Reason::Protocol, &error.to_string())),
        Err(_) => return Err(refuse(Reason::TooSlow, "no question")),
    };
    let Ask { host, secret, csr } = ask;
    let hash = sha256(&secret);
    let refusals = refusals.clone();
    let request = JoinRequest { host, hash, csr, remote, channel, connection, refusals };
    let taken = tokio::time::timeout(ANSWER, requests.send(request)).await;
    taken
        .is_ok_and(|sent| sent.is_ok())
        .then_some(())
        .ok_or_else(|| refuse(Reason::Overloaded, "nobody takes it"))
}

/// Joins the cluster of `token` as `name`: asks its coordinators in turn until one lets it in. Must be
/// called within a tokio runtime. `mark` as in [`super::EndpointOptions`].
///
/// # Errors
/// What a coordinator answered, else how the last one was silent. The token may be used up even where no
/// answer came.
pub async fn join(
    token: &JoinToken,
    name: &str,
    mark: Option<u32>,
) -> Result<(Identity, GossipKey), WireError> {
    let host: HostName = name.parse().map_err(|e| IdentityError::Malformed(format!("{e}")))?;
    let mut failed = WireError::Lost("the token names no coordinator".to_owned());
    for coordinator in &token.coordinators {
        match join_at(coordinator.address, token, &host, mark).await {
            Ok(joined) => return Ok(joined),
            Err(error) => {
                tracing::warn!(coordinator = %coordinator.name, %error, "not joined");
                // Who does not answer says less than who refuses.
                if !matches!(failed, WireError::RefusedByPeer { .. }) {
                    failed = error;
                }
            }
        }
    }
    Err(failed)
}

async fn join_at(
    address: SocketAddr,
    token: &JoinToken,
    host: &HostName,
    mark: Option<u32>,
) -> Result<(Identity, GossipKey), WireError> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let bind = any.parse().expect("an address");
    let failed = |source| WireError::Socket { address: bind, source };
    let socket = marked_udp(bind, mark).map_err(failed)?;
    let runtime = std::sync::Arc::new(quinn::TokioRuntime);
    let config = quinn::EndpointConfig::default();
    let endpoint = quinn::Endpoint::new(config, None, socket, runtime).map_err(failed)?;
    let expected = Expected::Authority(token.authority);
    let own = Greeting { version: WIRE_VERSION, role: None };
    let (connection, quinn) = dial(&endpoint, None, address, JOIN_NAME, expected, own).await?;
    let (pending, csr) = make_csr(host.as_str())?;
    let ask = Ask { host: host.clone(), secret: token.secret, csr };
    let answer = tokio::time::timeout(ANSWER, exchange(&quinn, &ask)).await;
    connection.close("joined");
    endpoint.wait_idle().await;
    let enrolment = answer.map_err(|_| WireError::Unanswered { address, after: ANSWER })??;
    let enrolment = enrolment.map_err(|why| WireError::RefusedByPeer { address, why })?;
    let identity = pending.complete(&enrolment)?;
    if identity.authority() != token.authority {
        return Err(IdentityError::UnknownAuthority.into());
    }
    Ok((identity, enrolment.gossip))
}

async fn exchange(connection: &quinn::Connection, ask: &Ask) -> Result<Answer, WireError> {
    let streams = connection.open_bi().await.map_err(|e| WireError::Lost(e.to_string()))?;
    let mut channel = channel(streams);
    channel.send(ask).await?;
    channel.finish();
    channel.recv().await?.ok_or(WireError::ChannelOver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn the_exchange_has_the_bytes_that_it_had() {
        let ask = Ask { host: "h1".parse().unwrap(), secret: [7; 32], csr: "csr".into() };
        let enrolment = Enrolment {
            certificate: "its".into(),
            authority: "the cluster's".into(),
            gossip: GossipKey([9; 32]),
        };
        let mut lines = golden::Lines::new();
        golden::add(&mut lines, "Ask", &ask);
        golden::add::<Answer>(&mut lines, "Answer::Ok", &Ok(enrolment));
        golden::add::<Answer>(&mut lines, "Answer::Err", &Err("why".into()));
        golden::compare(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/join.txt"), &lines);
    }
}
