//! Our wire alone: the connections, streams and frames that a coordinator and its agents have, and
//! nothing else of either. What lies between this and Squall is the stop itself; what lies between
//! this and TLS is QUIC.

use std::net::SocketAddr;
use std::path::Path;

use squall_wire::{
    ClusterAuthority, Connection, Endpoint, Identity, Receiver, Role, Sender, WireError, codec,
};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::cluster::endpoint;
use crate::serve::{self, Answers, Crowd, Served};
use crate::{ANSWER, AT_ONCE, DAYS, Outcome, PUSH};

/// Starts the server and `n` clients in `runtime`, each with a certificate and a socket of its own. The
/// server's certificate is in `server` and holds for `name`.
pub fn start(
    runtime: &Handle,
    n: usize,
    authority: &ClusterAuthority,
    server: &Path,
    name: &str,
) -> Outcome<Served> {
    Served::start("wire", server, n, |at| runtime.block_on(connect_all(n, at, authority, name)))
}

async fn connect_all(
    n: usize,
    address: SocketAddr,
    authority: &ClusterAuthority,
    name: &str,
) -> Outcome<()> {
    let mut connecting = JoinSet::new();
    for number in 1..=n {
        if connecting.len() == AT_ONCE
            && let Some(connected) = connecting.join_next().await
        {
            connected??;
        }
        let endpoint = endpoint(authority.issue(Role::Agent, &format!("h{number}"), DAYS)?)?;
        let name = name.to_owned();
        connecting.spawn(async move {
            let connection = endpoint.connect(address, Role::Coordinator, &name).await?;
            let (mut sender, mut receiver) = connection.open().await?.split();
            // The other side hears of a stream with its first frame.
            let answer = codec::encode(&vec![7_u8; ANSWER])?;
            sender.queue(&answer)?;
            tokio::spawn(async move {
                let _open = (endpoint, connection);
                while let Ok(Some(_)) = receiver.recv::<Vec<u8>>().await {
                    sender.queue(&answer)?;
                }
                Ok::<_, WireError>(())
            });
            Ok::<_, WireError>(())
        });
    }
    while let Some(connected) = connecting.join_next().await {
        connected??;
    }
    Ok(())
}

/// The server.
pub fn serve(dir: &Path) -> Outcome<()> {
    let runtime = serve::runtime()?;
    let endpoint = {
        let _inside = runtime.enter();
        endpoint(Identity::load(dir)?)?
    };
    serve::serve(&runtime, endpoint.local_addr(), async |n| accept_all(n, endpoint).await)
}

struct Connections {
    senders: Vec<Sender>,
    answers: Answers,
    _open: (Endpoint, Vec<Connection>),
}

async fn accept_all(n: usize, endpoint: Endpoint) -> Outcome<Connections> {
    let answers = Answers::of(n);
    answers.begin();
    let (mut senders, mut connections) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let connection = endpoint.accept().await.ok_or("the endpoint is closed")?;
        let (sender, receiver) = connection.accept_channel().await?.split();
        tokio::spawn(hear(receiver, answers.clone()));
        senders.push(sender);
        connections.push(connection);
    }
    answers.all().await;
    Ok(Connections { senders, answers, _open: (endpoint, connections) })
}

async fn hear(mut receiver: Receiver, answers: Answers) {
    while let Ok(Some(_)) = receiver.recv::<Vec<u8>>().await {
        answers.heard();
    }
}

impl Crowd for Connections {
    async fn round(mut self) -> Outcome<Connections> {
        let push = codec::encode(&vec![7_u8; PUSH])?;
        self.answers.begin();
        for sender in &mut self.senders {
            sender.queue(&push)?;
        }
        self.answers.all().await;
        Ok(self)
    }
}
