//! The two ends of one connection within a process.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::pipe::{Pipe, Reader, Writer};
use crate::WireError;
use crate::transport::stream::{ReadHalf, WriteHalf};

type Stream = (Pipe, Pipe);

/// What both ends share: whether, and why, the connection is over.
#[derive(Debug)]
struct Fate {
    over: watch::Sender<Option<String>>,
    pipes: Mutex<Vec<Pipe>>,
}

impl Fate {
    fn end(&self, why: &str) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert_with(|| why.to_owned());
            first
        });
        for pipe in self.pipes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            pipe.lose(why);
        }
    }

    fn lost(&self) -> Option<WireError> {
        self.over.borrow().clone().map(WireError::Lost)
    }
}

/// Ends the connection when the last handle or channel of one end is gone, as QUIC does.
#[derive(Debug)]
struct Guard(Arc<Fate>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end("closed by peer: dropped");
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Link {
    fate: Arc<Fate>,
    guard: Arc<Guard>,
    open: mpsc::Sender<Stream>,
    opened: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
}

/// Two connected ends; each takes `streams` channels that were opened and not yet accepted.
pub(crate) fn pair(streams: usize) -> (Link, Link) {
    let fate = Arc::new(Fate { over: watch::Sender::new(None), pipes: Mutex::default() });
    let (to_b, from_a) = mpsc::channel(streams);
    let (to_a, from_b) = mpsc::channel(streams);
    let end = |open, opened| Link {
        fate: fate.clone(),
        guard: Arc::new(Guard(fate.clone())),
        open,
        opened: tokio::sync::Mutex::new(opened),
    };
    (end(to_b, from_b), end(to_a, from_a))
}

impl Link {
    pub(crate) async fn open(&self) -> Result<(WriteHalf, ReadHalf), WireError> {
        if let Some(lost) = self.fate.lost() {
            return Err(lost);
        }
        // The permit is the stream limit: opening waits until the other side has accepted.
        let permit = tokio::select! {
            permit = self.open.clone().reserve_owned() => permit,
            why = self.closed() => return Err(WireError::Lost(why)),
        };
        let permit = permit.map_err(|_| WireError::Lost("closed by peer".to_owned()))?;
        let (out, back) = (Pipe::default(), Pipe::default());
        {
            let mut pipes = self.fate.pipes.lock().unwrap_or_else(PoisonError::into_inner);
            pipes.retain(|pipe| !pipe.is_over());
            pipes.extend([out.clone(), back.clone()]);
        }
        let stream = (out.clone(), back.clone());
        let announce = Box::new(move || drop(permit.send(stream)));
        let writer = out.writer(self.guard.clone(), Some(announce));
        Ok(halves(writer, back.reader(self.guard.clone())))
    }

    pub(crate) async fn accept(&self) -> Result<(WriteHalf, ReadHalf), WireError> {
        let mut opened = self.opened.lock().await;
        let stream = tokio::select! {
            biased;
            stream = opened.recv() => stream,
            why = self.closed() => return Err(WireError::Lost(why)),
        };
        let (their_out, their_back) =
            stream.ok_or_else(|| WireError::Lost("closed by peer".to_owned()))?;
        let writer = their_back.writer(self.guard.clone(), None);
        Ok(halves(writer, their_out.reader(self.guard.clone())))
    }

    pub(crate) async fn closed(&self) -> String {
        let mut over = self.fate.over.subscribe();
        let why = over.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    pub(crate) fn close(&self, why: &str) {
        self.fate.end(why);
    }
}

fn halves(writer: Writer, reader: Reader) -> (WriteHalf, ReadHalf) {
    (WriteHalf::Memory(writer), ReadHalf::Memory(reader))
}
