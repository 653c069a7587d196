//! One stream of bytes, over QUIC or in memory. Everything above it is the same code for both.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::WireError;
use crate::memory::pipe;

/// The end that writes.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Quic(quinn::SendStream),
    Memory(pipe::Writer),
}

/// The end that reads.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Quic(quinn::RecvStream),
    Memory(pipe::Reader),
}

impl WriteHalf {
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, WireError>> {
        match self {
            WriteHalf::Quic(stream) => {
                Pin::new(stream).poll_write(cx, bytes).map_err(|error| match error {
                    quinn::WriteError::ConnectionLost(e) => WireError::Lost(e.to_string()),
                    quinn::WriteError::Stopped(_)
                    | quinn::WriteError::ClosedStream
                    | quinn::WriteError::ZeroRttRejected => WireError::ChannelOver,
                })
            }
            WriteHalf::Memory(pipe) => pipe.poll_write(cx, bytes),
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn finish(&mut self) {
        match self {
            // An error says that the stream is over already.
            WriteHalf::Quic(stream) => drop(stream.finish()),
            WriteHalf::Memory(pipe) => pipe.finish(),
        }
    }

    /// Says that what came so far is not whole.
    pub(crate) fn abandon(&mut self) {
        match self {
            WriteHalf::Quic(stream) => drop(stream.reset(quinn::VarInt::from_u32(0))),
            WriteHalf::Memory(pipe) => pipe.abandon(),
        }
    }
}

impl ReadHalf {
    /// Some bytes into `into`; 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, WireError>> {
        match self {
            ReadHalf::Quic(stream) => stream.poll_read(cx, into).map_err(|error| match error {
                quinn::ReadError::ConnectionLost(e) => WireError::Lost(e.to_string()),
                quinn::ReadError::Reset(_)
                | quinn::ReadError::ClosedStream
                | quinn::ReadError::IllegalOrderedRead
                | quinn::ReadError::ZeroRttRejected => WireError::ChannelOver,
            }),
            ReadHalf::Memory(pipe) => pipe.poll_read(cx, into),
        }
    }
}
