//! A bounded stream of bytes within one process, with the endings of a QUIC stream: finished by the
//! writer, abandoned by the writer, not read any more, or lost with its connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::WireError;

/// Bytes under way, at most.
const CAPACITY: usize = 64 * 1024;

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    finished: bool,
    abandoned: bool,
    unread: bool,
    lost: Option<String>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// What both ends and their connection share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

/// Keeps a connection alive as long as one of its channels is.
pub(crate) type Keep = Arc<dyn std::any::Any + Send + Sync>;

/// The end that writes.
pub(crate) struct Writer {
    pipe: Pipe,
    announce: Option<Box<dyn FnOnce() + Send + Sync>>,
    _keep: Keep,
}

/// The end that reads.
pub(crate) struct Reader {
    pipe: Pipe,
    _keep: Keep,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer(..)")
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader(..)")
    }
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is over.
    pub(crate) fn lose(&self, why: &str) {
        let mut state = self.state();
        state.lost.get_or_insert_with(|| why.to_owned());
        state.wake();
    }

    /// Neither end is there any more.
    pub(crate) fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// `announce` runs with the first byte written or at the finish: the other side hears of a
    /// stream no sooner.
    pub(crate) fn writer(
        &self,
        keep: Keep,
        announce: Option<Box<dyn FnOnce() + Send + Sync>>,
    ) -> Writer {
        Writer { pipe: self.clone(), announce, _keep: keep }
    }

    pub(crate) fn reader(&self, keep: Keep) -> Reader {
        Reader { pipe: self.clone(), _keep: keep }
    }
}

impl Writer {
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WireError>> {
        if let Some(announce) = self.announce.take() {
            announce();
        }
        let mut state = self.pipe.state();
        if let Some(why) = &state.lost {
            return Poll::Ready(Err(WireError::Lost(why.clone())));
        }
        if state.unread || state.finished || state.abandoned {
            return Poll::Ready(Err(WireError::ChannelOver));
        }
        let room = CAPACITY - state.bytes.len();
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = room.min(bytes.len());
        state.bytes.extend(&bytes[..n]);
        state.wake();
        Poll::Ready(Ok(n))
    }

    pub(crate) fn finish(&mut self) {
        if let Some(announce) = self.announce.take() {
            announce();
        }
        let mut state = self.pipe.state();
        state.finished = true;
        state.wake();
    }

    pub(crate) fn abandon(&mut self) {
        let mut state = self.pipe.state();
        state.abandoned = true;
        state.bytes.clear();
        state.wake();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.finished = true;
        state.wake();
    }
}

impl Reader {
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, WireError>> {
        let mut state = self.pipe.state();
        if state.abandoned {
            return Poll::Ready(Err(WireError::ChannelOver));
        }
        let n = into.len().min(state.bytes.len());
        if n > 0 {
            for (slot, byte) in into.iter_mut().zip(state.bytes.drain(..n)) {
                *slot = byte;
            }
            state.wake();
            return Poll::Ready(Ok(n));
        }
        if state.finished {
            return Poll::Ready(Ok(0));
        }
        if let Some(why) = &state.lost {
            return Poll::Ready(Err(WireError::Lost(why.clone())));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.unread = true;
        state.bytes.clear();
        state.wake();
    }
}
