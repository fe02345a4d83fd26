use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep, sleep_until},
};

use super::{
    envelope::{Enveloped, SESSION_LEN, has_sessions},
    inbox::Stale,
    shared::{Attached, Shared, Stop},
};
use crate::channel::{Channel, ChannelError, ChannelReader, ChannelWriter};

/// How much is taken from the queue for one write, in bytes (one frame more, to be exact).
const BATCH_LEN: usize = 256 << 10;

/// Why a connection has ended.
enum End {
    Failed(ChannelError),
    Replaced,
    Stopped,
}

/// Keeps a connection going until it fails, is replaced, or the network stops.
pub(super) async fn run(
    mut attached: Attached,
    channel: Channel<TcpStream>,
    shared: &Arc<Shared>,
    stop: &Stop,
) {
    let peer = attached.peer;
    tracing::info!(%peer, "connected");
    let has_sessions = has_sessions(shared.config.me, peer);
    let envelope = if has_sessions { SESSION_LEN } else { 0 };
    let (reader, writer) = channel.into_split(shared.config.limits.frame_len(peer) + envelope);
    // The rest of `attached` is borrowed by the two halves meanwhile.
    let (_, never) = tokio::sync::oneshot::channel();
    let replaced = std::mem::replace(&mut attached.replaced, never);
    let attached = &attached;
    let ear = Ear::default();
    let end = tokio::select! {
        end = receive(reader, attached, shared, has_sessions, &ear) => end,
        () = ear.silence(shared.config.timing.idle_timeout) => {
            End::Failed(io::Error::from(io::ErrorKind::TimedOut).into())
        }
        error = send(writer, attached, shared, has_sessions, stop.clone()) => End::Failed(error),
        _ = replaced => End::Replaced,
        () = grace_over(shared, stop.clone()) => End::Stopped,
    };
    match end {
        End::Failed(ChannelError::Closed) => tracing::info!(%peer, "disconnected by the peer"),
        End::Failed(error) => tracing::warn!(%peer, %error, "disconnected"),
        End::Replaced => tracing::info!(%peer, "replaced by a newer connection"),
        End::Stopped => tracing::info!(%peer, "disconnected; the network stops"),
    }
}

/// Notices that a peer has fallen silent. It looks now and then instead of setting a timer for each
/// message, which would cost more than receiving it.
#[derive(Default)]
struct Ear {
    has_heard: AtomicBool,
    /// Whether nobody listens, because what was heard before has no room yet.
    is_away: AtomicBool,
}

impl Ear {
    /// How often it looks before it is sure.
    const LOOKS: u32 = 4;

    /// Waits until a peer has been silent for so long, and up to a quarter longer.
    async fn silence(&self, limit: Duration) {
        let mut silent = 0;
        while silent <= Self::LOOKS {
            sleep(limit / Self::LOOKS).await;
            let is_alive = self.has_heard.swap(false, Relaxed) || self.is_away.load(Relaxed);
            silent = if is_alive { 0 } else { silent + 1 };
        }
    }
}

/// Delivers frames, waiting where there is no room for them: then the peer has to wait too.
async fn receive(
    mut reader: ChannelReader<OwnedReadHalf>,
    attached: &Attached,
    shared: &Shared,
    has_sessions: bool,
    ear: &Ear,
) -> End {
    let mut read = Vec::new();
    let mut frames = VecDeque::new();
    loop {
        if let Err(error) = reader.read(&mut read).await {
            return End::Failed(error);
        }
        ear.has_heard.store(true, Relaxed);
        attached.counters.received(read.len(), read.iter().map(Bytes::len).sum());
        for bytes in read.drain(..) {
            let frame =
                if has_sessions { Enveloped::opened(bytes) } else { Some(Enveloped { session: 0, bytes }) };
            match frame {
                Some(frame) => frames.push_back(frame),
                None => return End::Failed(ChannelError::NoSession),
            }
        }
        ear.is_away.store(true, Relaxed);
        let delivered = shared.inbox.deliver(attached.peer, attached.number, &mut frames).await;
        ear.is_away.store(false, Relaxed);
        if let Err(Stale) = delivered {
            return End::Replaced;
        }
    }
}

/// Sends what is queued, all of it with as few writes as possible, and an empty message when
/// there has been nothing for a while. When the network stops, sends what is left and then no more.
async fn send(
    mut writer: ChannelWriter<OwnedWriteHalf>,
    attached: &Attached,
    shared: &Shared,
    has_sessions: bool,
    mut stop: Stop,
) -> ChannelError {
    let keep_alive = shared.config.timing.keep_alive;
    let mut batch = Vec::new();
    let mut sent = Instant::now();
    let stopped = stop.wait();
    let alarm = sleep_until(sent + keep_alive);
    tokio::pin!(stopped, alarm);
    loop {
        attached.outbox.take(&mut batch, BATCH_LEN);
        if batch.is_empty() {
            tokio::select! {
                biased;
                () = attached.outbox.ready() => continue,
                () = &mut stopped => break,
                () = &mut alarm => {}
            }
            // It is set anew when it goes off, and not with each message.
            let (due, now) = (sent + keep_alive, Instant::now());
            if due > now {
                alarm.as_mut().reset(due);
                continue;
            }
            alarm.as_mut().reset(now + keep_alive);
        }
        for frame in &batch {
            match has_sessions {
                true => writer.push(&[&frame.session.to_le_bytes(), &frame.bytes]),
                false => writer.push(&[&frame.bytes]),
            }
        }
        if let Err(error) = writer.flush().await {
            return error;
        }
        sent = Instant::now();
        attached.outbox.taken_are_sent();
        attached.counters.sent(batch.len(), batch.iter().map(|frame| frame.bytes.len()).sum());
        batch.clear();
    }
    match writer.shutdown().await {
        // To close now could destroy what is under way: the peer is to see the end and close.
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// Waits until the network stops, and then as long as sending what is left may take.
async fn grace_over(shared: &Shared, mut stop: Stop) {
    stop.wait().await;
    sleep(shared.config.timing.shutdown_grace).await;
}
