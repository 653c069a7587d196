//! The person's side of the socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use squall_core::fault::Fault;
use squall_core::message::FaultReport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::{Answer, Ask, LEASE_MS, SOCKET};

/// A connection to the agent of this host.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    /// When the lease is renewed next, whatever the agent says meanwhile: what it says each second must
    /// not put the renewal off.
    renew_at: Instant,
}

/// Between two renewals.
const RENEW: Duration = Duration::from_millis(LEASE_MS / 5);

/// How an injection went.
#[derive(Clone, Debug)]
pub enum Injected {
    /// The fault has changed.
    Changed(FaultReport),
    /// It is over.
    Over(FaultReport),
    /// Nothing was begun.
    Refused {
        /// Why.
        reason: String,
        /// By policy or latch.
        by_safety: bool,
    },
}

impl Client {
    /// Connects to the agent whose run directory this is; `None` where no agent runs.
    ///
    /// # Errors
    /// The socket is there and cannot be used.
    pub async fn connect(run_dir: &Path) -> io::Result<Option<Client>> {
        match UnixStream::connect(run_dir.join(SOCKET)).await {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                let lines = BufReader::new(read).lines();
                Ok(Some(Client { lines, write, renew_at: Instant::now() + RENEW }))
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Asks for a fault; then call [`Client::next`] until it is over.
    ///
    /// # Errors
    /// The connection's.
    pub async fn inject(&mut self, fault: Fault, duration_ms: u64) -> io::Result<()> {
        self.ask(&Ask::Inject { fault, duration_ms }).await
    }

    /// The next change of the fault, renewing its lease meanwhile.
    ///
    /// # Errors
    /// The connection's: then the agent is gone, and the kernel has lifted the fault.
    pub async fn next(&mut self) -> io::Result<Injected> {
        loop {
            let renew = tokio::time::sleep_until(self.renew_at);
            tokio::select! {
                biased;
                () = renew => {
                    self.renew_at = Instant::now() + RENEW;
                    self.ask(&Ask::Renew).await?;
                }
                answer = answer(&mut self.lines) => match answer? {
                    Answer::Refused { reason, by_safety } => {
                        return Ok(Injected::Refused { reason, by_safety });
                    }
                    Answer::Fault(fault) => {
                        return Ok(if fault.phase.is_gone() {
                            Injected::Over(*fault)
                        } else {
                            Injected::Changed(*fault)
                        });
                    }
                    Answer::Faults(_) => {}
                },
            }
        }
    }

    /// Asks for the end of the fault.
    ///
    /// # Errors
    /// The connection's.
    pub async fn lift(&mut self) -> io::Result<()> {
        self.ask(&Ask::Lift).await
    }

    /// Lifts everything on this host; returns every fault that was alive or not yet acknowledged.
    ///
    /// # Errors
    /// The connection's.
    pub async fn lift_all(&mut self) -> io::Result<Vec<FaultReport>> {
        self.ask(&Ask::LiftAll).await?;
        self.faults_answer().await
    }

    /// What is held now.
    ///
    /// # Errors
    /// The connection's.
    pub async fn faults(&mut self) -> io::Result<Vec<FaultReport>> {
        self.ask(&Ask::Faults).await?;
        self.faults_answer().await
    }

    async fn faults_answer(&mut self) -> io::Result<Vec<FaultReport>> {
        loop {
            if let Answer::Faults(faults) = answer(&mut self.lines).await? {
                return Ok(faults);
            }
        }
    }

    async fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }
}

/// One answer; safe to give up while it is awaited.
async fn answer(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> io::Result<Answer> {
    let line = lines.next_line().await?;
    let line = line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(serde_json::from_str(&line)?)
}
