//! Frames on a stream: four bytes of length, then an encoded value.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stream::{ReadHalf, WriteHalf};
use crate::codec::{self, MAX_FRAME};
use crate::{Connection, WireError};

/// Bytes that [`Sender::queue`] keeps for a side that does not take them, at most.
pub const MAX_QUEUED: usize = MAX_FRAME;
const LENGTH: usize = 4;
/// A frame's buffer grows by what arrives, in steps of at most this.
const STEP: usize = 64 * 1024;
/// Bytes read at once, at most, where a frame is that small.
const AHEAD: usize = 2 * 1024;

/// One bidirectional stream of frames. The other side hears of it with its first frame.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    pub(crate) fn new(write: WriteHalf, read: ReadHalf, limit: usize) -> Channel {
        let sender = Sender { write, pending: Vec::new(), sent: 0 };
        Channel { sender, receiver: Receiver { read, limit, have: Vec::new() } }
    }

    /// The two directions, each on its own.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), WireError> {
        self.sender.send(value).await
    }

    /// See [`Receiver::recv`].
    ///
    /// # Errors
    /// Those of [`Receiver::recv`].
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        self.receiver.recv().await
    }

    /// See [`Sender::finish`].
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Opens a channel, sends one question, says that no more will come, and waits for one answer.
    /// There is no time limit: wrap it in one.
    ///
    /// # Errors
    /// The connection's or the channel's; [`WireError::ChannelOver`] where no answer came. The
    /// question may have taken effect all the same.
    pub async fn request<Q, R>(connection: &Connection, question: &Q) -> Result<R, WireError>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        let mut channel = connection.open().await?;
        channel.send(question).await?;
        channel.finish();
        channel.recv().await?.ok_or(WireError::ChannelOver)
    }

    pub(crate) async fn send_raw(&mut self, body: &[u8]) -> Result<(), WireError> {
        self.sender.send_encoded(body).await
    }

    pub(crate) async fn recv_raw(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        self.receiver.recv_raw().await
    }

    /// Bytes as they are, no frame.
    #[cfg(test)]
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.sender.pending.extend_from_slice(bytes);
        self.sender.flush().await.expect("the channel is open");
    }
}

/// The sending direction. Dropping it without [`Sender::finish`] ends it all the same; a frame that
/// is not out by then is lost.
#[derive(Debug)]
pub struct Sender {
    write: WriteHalf,
    /// Frames that are not out yet, the first of them perhaps in part.
    pending: Vec<u8>,
    sent: usize,
}

impl Sender {
    /// Sends one value; returns when all of it is with the transport, which is not when it has
    /// arrived. Where the future is dropped halfway the stream stays whole: a frame that was begun
    /// goes on with the next call on this sender, so that it may or may not arrive.
    ///
    /// # Errors
    /// [`WireError::Codec`] changes nothing. After any other error the channel is over, and what was
    /// sent may or may not have arrived.
    pub async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), WireError> {
        self.send_encoded(&codec::encode(value)?).await
    }

    /// Sends what [`codec::encode`] made: encode once, send to many.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_encoded(&mut self, encoded: &[u8]) -> Result<(), WireError> {
        // What an earlier call left goes first, so that the buffer never holds more than it must.
        self.flush().await?;
        self.append(encoded)?;
        self.flush().await
    }

    /// Sends as much as goes out at once and keeps the rest for [`Sender::flush`] or the next send.
    /// Never waits: to stop a fleet, queue to every agent in one loop, then flush.
    ///
    /// # Errors
    /// As [`Sender::send`]; [`WireError::Backlog`] where the other side has left more than
    /// [`MAX_QUEUED`] bytes untaken: nothing was queued then.
    pub fn queue(&mut self, encoded: &[u8]) -> Result<(), WireError> {
        self.append(encoded)?;
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Waits until everything queued is with the transport.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn flush(&mut self) -> Result<(), WireError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says that no more will come; the other side reads what was sent and then `None`. A frame
    /// that is not out entirely is given up, and the other side gets an error instead.
    pub fn finish(&mut self) {
        if self.pending.is_empty() { self.write.finish() } else { self.write.abandon() }
    }

    fn append(&mut self, encoded: &[u8]) -> Result<(), WireError> {
        let queued = self.pending.len() - self.sent;
        if queued > 0 && queued + LENGTH + encoded.len() > MAX_QUEUED {
            return Err(WireError::Backlog { queued });
        }
        let limit = MAX_FRAME;
        let length = u32::try_from(encoded.len()).ok().filter(|n| *n as usize <= limit);
        let Some(length) = length else {
            return Err(WireError::FrameTooLarge { len: encoded.len(), limit });
        };
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(encoded);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while self.sent < self.pending.len() {
            match self.write.poll_write(cx, &self.pending[self.sent..]) {
                Poll::Ready(Ok(n)) => self.sent += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // Given back, not kept: a thousand idle agents hold no buffers.
        self.pending = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// The receiving direction. Dropping it tells the other side that nothing more is read.
#[derive(Debug)]
pub struct Receiver {
    read: ReadHalf,
    limit: usize,
    /// What has arrived and was not asked for yet: the frame that is under way, its length included,
    /// and perhaps some after it.
    have: Vec<u8>,
}

impl Receiver {
    /// The next value; `None` where the other side has finished. Safe to drop halfway (in a
    /// `select!`): nothing is lost.
    ///
    /// # Errors
    /// [`WireError::FrameTooLarge`] before anything is allocated for it, [`WireError::Codec`] for a
    /// frame that is no `T`, [`WireError::Truncated`] for half a frame: the other side does not speak
    /// our language, and the channel is of no further use. [`WireError::Lost`] and
    /// [`WireError::ChannelOver`] as everywhere.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let Some(len) = self.frame().await? else { return Ok(None) };
        let value = codec::decode(&self.have[LENGTH..len]);
        self.consume(len);
        Ok(Some(value?))
    }

    /// Lowers the limit of one frame, in bytes.
    pub fn limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_FRAME);
    }

    async fn recv_raw(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some(len) = self.frame().await? else { return Ok(None) };
        let body = self.have[LENGTH..len].to_vec();
        self.consume(len);
        Ok(Some(body))
    }

    /// Waits until `have` begins with a whole frame; returns how long it is, its length included.
    async fn frame(&mut self) -> Result<Option<usize>, WireError> {
        loop {
            let want = match self.have.first_chunk::<LENGTH>() {
                None => LENGTH,
                Some(head) => {
                    let len = u32::from_be_bytes(*head) as usize;
                    if len > self.limit {
                        return Err(WireError::FrameTooLarge { len, limit: self.limit });
                    }
                    if len == 0 {
                        return Err(codec::CodecError::Empty.into());
                    }
                    LENGTH + len
                }
            };
            if self.have.len() >= want && want > LENGTH {
                return Ok(Some(want));
            }
            if self.fill(want).await? == 0 {
                return if self.have.is_empty() { Ok(None) } else { Err(WireError::Truncated) };
            }
        }
    }

    fn consume(&mut self, len: usize) {
        if self.have.len() == len {
            // Given back, not kept: a thousand idle agents hold no buffers.
            self.have = Vec::new();
        } else {
            self.have.drain(..len);
        }
    }

    /// Reads towards `want` bytes, and what has arrived beyond them where that is little: most frames
    /// are small, and each look at a stream costs. A claimed length costs nothing until its bytes arrive.
    async fn fill(&mut self, want: usize) -> Result<usize, WireError> {
        let have = self.have.len();
        let missing = want - have;
        let (read, buffer) = (&mut self.read, &mut self.have);
        poll_fn(|cx| {
            if missing <= AHEAD {
                let mut little = [0; AHEAD];
                let result = ready!(read.poll_read(cx, &mut little));
                buffer.extend_from_slice(&little[..*result.as_ref().unwrap_or(&0)]);
                return Poll::Ready(result);
            }
            buffer.resize(have + missing.min(STEP), 0);
            let result = read.poll_read(cx, &mut buffer[have..]);
            let got = if let Poll::Ready(Ok(n)) = &result { *n } else { 0 };
            buffer.truncate(have + got);
            result
        })
        .await
    }
}
