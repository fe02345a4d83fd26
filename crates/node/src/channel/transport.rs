use std::{io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use snow::StatelessTransportState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::ChannelError;
use crate::frame::{self, FrameDecoder, PREFIX_LEN};

/// The longest Noise message in bytes, by the Noise specification.
pub const MESSAGE_LIMIT: usize = 65535;
const TAG_LEN: usize = 16;
const CHUNK_LEN: usize = MESSAGE_LIMIT - TAG_LEN;

/// How much is sealed before it is written out, in bytes of plaintext.
const WRITE_LEN: usize = 4 * CHUNK_LEN;
/// The least and the most that one read from the stream asks for, in bytes.
const READ_LENS: (usize, usize) = (4 << 10, 128 << 10);

/// The keys of both directions.
pub(super) struct Keys(Arc<StatelessTransportState>);

impl Keys {
    pub(super) fn new(state: StatelessTransportState) -> Self {
        Self(Arc::new(state))
    }

    pub(super) fn split(self) -> (Sealer, Opener) {
        (Sealer { keys: Arc::clone(&self.0), number: 0 }, Opener { keys: self.0, number: 0 })
    }
}

/// Seals the messages of one direction. The number of a message is its nonce, and never sent: the
/// stream keeps the order, and a message replayed or left out fails to authenticate.
pub(super) struct Sealer {
    keys: Arc<StatelessTransportState>,
    number: u64,
}

impl Sealer {
    /// Appends a framed message with these contents, at most [`CHUNK_LEN`] bytes, to `out`.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let len = plain.len() + TAG_LEN;
        out.extend_from_slice(&frame::encode_length(len));
        let start = out.len();
        out.resize(start + len, 0);
        self.keys
            .write_message(self.number, plain, &mut out[start..])
            .expect("the chunk is within the limits, and 2^64 messages are never reached");
        self.number += 1;
    }
}

/// Opens the messages of one direction.
pub(super) struct Opener {
    keys: Arc<StatelessTransportState>,
    number: u64,
}

impl Opener {
    /// Puts the contents of the next message into `plain`.
    pub(super) fn open(&mut self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), ChannelError> {
        let number = self.number;
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(ChannelError::Message { number })?;
        plain.resize(len, 0);
        self.keys.read_message(number, sealed, plain).map_err(|_| ChannelError::Message { number })?;
        self.number += 1;
        Ok(())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("number", &self.number).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The sending half of a channel: gathers frames and sends them with as few messages and system
/// calls as possible, since it is those that cost.
#[derive(Debug)]
pub struct ChannelWriter<W> {
    stream: W,
    sealer: Sealer,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> ChannelWriter<W> {
    pub(super) fn new(stream: W, sealer: Sealer) -> Self {
        Self { stream, sealer, plain: Vec::new(), sealed: Vec::new() }
    }

    /// Adds a frame made of these parts to what the next [`flush`](Self::flush) sends.
    pub fn push(&mut self, parts: &[&[u8]]) {
        frame::encode(parts, &mut self.plain);
    }

    /// Sends the gathered frames; without any, an empty message that keeps the channel alive.
    ///
    /// # Errors
    /// When the connection fails. After an error or a cancelled call the channel is useless.
    pub async fn flush(&mut self) -> Result<(), ChannelError> {
        let mut rest = &self.plain[..];
        loop {
            let (now, later) = rest.split_at(rest.len().min(WRITE_LEN));
            self.sealed.clear();
            if now.is_empty() {
                self.sealer.seal(&[], &mut self.sealed);
            }
            now.chunks(CHUNK_LEN).for_each(|chunk| self.sealer.seal(chunk, &mut self.sealed));
            self.stream.write_all(&self.sealed).await?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.plain.clear();
        if self.plain.capacity() > WRITE_LEN {
            self.plain = Vec::new();
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn shutdown(&mut self) -> Result<(), ChannelError> {
        Ok(self.stream.shutdown().await?)
    }
}

/// The receiving half of a channel.
#[derive(Debug)]
pub struct ChannelReader<R> {
    stream: R,
    opener: Opener,
    sealed: BytesMut,
    plain: Vec<u8>,
    frames: FrameDecoder,
    /// How much the next read asks for; grows while the peer has more than that.
    read_len: usize,
}

impl<R: AsyncRead + Unpin> ChannelReader<R> {
    /// A reader of frames of at most `frame_limit` bytes.
    pub(super) fn new(stream: R, opener: Opener, frame_limit: usize) -> Self {
        Self {
            stream,
            opener,
            sealed: BytesMut::new(),
            plain: Vec::new(),
            frames: FrameDecoder::new(frame_limit),
            read_len: READ_LENS.0,
        }
    }

    /// Waits for at least one message, and appends the frames completed by all that have arrived.
    /// There may be none: the peer keeps the channel alive, or sends a long frame.
    ///
    /// A cancelled call loses nothing.
    ///
    /// # Errors
    /// When the connection fails or ends, or the peer breaks the protocol.
    pub async fn read(&mut self, frames: &mut Vec<Bytes>) -> Result<(), ChannelError> {
        while !self.open_next(frames)? {
            self.fill().await?;
        }
        while self.open_next(frames)? {}
        Ok(())
    }

    /// Opens the next message if it has arrived whole.
    fn open_next(&mut self, frames: &mut Vec<Bytes>) -> Result<bool, ChannelError> {
        let Some((prefix, rest)) = self.sealed.split_first_chunk::<PREFIX_LEN>() else { return Ok(false) };
        let len = frame::decode_length(*prefix, MESSAGE_LIMIT)?;
        let Some(message) = rest.get(..len) else { return Ok(false) };
        self.opener.open(message, &mut self.plain)?;
        self.frames.push(&self.plain, frames)?;
        self.sealed.advance(PREFIX_LEN + len);
        Ok(true)
    }

    async fn fill(&mut self) -> Result<(), ChannelError> {
        self.sealed.reserve(self.read_len);
        // Limited, because the buffer's capacity may exceed what was reserved.
        let mut stream = (&mut self.stream).take(self.read_len as u64);
        let read = stream.read_buf(&mut self.sealed).await?;
        if read == self.read_len {
            self.read_len = (2 * self.read_len).min(READ_LENS.1);
        }
        match read {
            0 if self.sealed.is_empty() && self.frames.is_between_frames() => Err(ChannelError::Closed),
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
