//! A server with many connections, in a process of its own.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::Outcome;
use crate::child::Child;

/// As many threads as a coordinator has.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// A server seen from here: it runs, and all its clients are connected.
pub struct Served(Child);

impl Served {
    /// Starts the server of this kind with what is in `dir`; `connect` connects `n` clients to it.
    pub fn start(
        kind: &str,
        dir: &Path,
        n: usize,
        connect: impl FnOnce(SocketAddr) -> Outcome<()>,
    ) -> Outcome<Served> {
        let mut child = Child::serve(&[kind, &dir.display().to_string()])?;
        let address = child.hear()?.parse()?;
        child.say(&n.to_string())?;
        connect(address)?;
        child.hear()?;
        Ok(Served(child))
    }

    /// One round.
    pub fn round(&mut self) -> Outcome<()> {
        self.0.say("go")?;
        self.0.hear().map(drop)
    }
}

/// All connections of a server.
pub trait Crowd: Sized + Send + 'static {
    /// Pushes to each in one loop, then hears all.
    fn round(self) -> impl Future<Output = Outcome<Self>> + Send;
}

/// Says the address, hears how many clients will come, says when they are there; then rounds.
pub fn serve<C: Crowd>(
    runtime: &Runtime,
    address: SocketAddr,
    accept: impl AsyncFnOnce(usize) -> Outcome<C>,
) -> Outcome<()> {
    println!("{address}");
    let mut lines = io::stdin().lock().lines();
    let n = lines.next().ok_or("how many?")??.parse()?;
    let mut crowd = runtime.block_on(accept(n))?;
    println!("ready");
    for line in lines {
        drop(line?);
        crowd = runtime.block_on(runtime.spawn(crowd.round()))??;
        println!("done");
        io::stdout().flush()?;
    }
    Ok(())
}

/// Counts the answers of a round.
#[derive(Clone)]
pub struct Answers {
    n: usize,
    heard: Arc<AtomicUsize>,
    all: Arc<Notify>,
}

impl Answers {
    /// `n` answers make a round.
    pub fn of(n: usize) -> Answers {
        Answers { n, heard: Arc::new(AtomicUsize::new(0)), all: Arc::new(Notify::new()) }
    }

    /// A round begins.
    pub fn begin(&self) {
        self.heard.store(0, Ordering::Release);
    }

    /// One more.
    pub fn heard(&self) {
        if self.heard.fetch_add(1, Ordering::AcqRel) + 1 == self.n {
            self.all.notify_one();
        }
    }

    /// Waits for the last one.
    pub async fn all(&self) {
        self.all.notified().await;
    }
}
