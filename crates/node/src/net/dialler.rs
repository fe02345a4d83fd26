use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    backoff::Backoff,
    config::Peer,
    connection,
    shared::{Shared, Stop},
};
use crate::channel::{self, Channel, ChannelError, Role};

/// Keeps a connection to the peer up, until the network stops. Where the peer `moves` to is tried at once, if it is not
/// connected.
pub(super) async fn run(
    mut peer: Peer,
    mut moves: watch::Receiver<SocketAddr>,
    shared: Arc<Shared>,
    mut stop: Stop,
) {
    let timing = shared.config.timing;
    let mut backoff = Backoff::new(timing.min_backoff, timing.max_backoff);
    let mut failures = 0_u32;
    loop {
        peer.address = *moves.borrow_and_update();
        let dialled = tokio::select! {
            () = stop.wait() => return,
            dialled = dial(&peer, &shared) => dialled,
        };
        match dialled
            .and_then(|channel| Ok((shared.attach(peer.id).map_err(ChannelError::Refusing)?, channel)))
        {
            Ok((attached, channel)) => {
                failures = 0;
                let begin = Instant::now();
                connection::run(attached, channel, &shared, &stop).await;
                // A peer that accepts only to close again is dialled ever more rarely too.
                if begin.elapsed() >= timing.max_backoff {
                    backoff.reset();
                }
            }
            Err(error) => {
                log_failure(&peer, &error, failures);
                failures = failures.saturating_add(1);
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            () = sleep(backoff.pause()) => {}
            () = next(&mut moves) => backoff.reset(),
        }
    }
}

/// Waits until the peer has another address.
async fn next(moves: &mut watch::Receiver<SocketAddr>) {
    if moves.changed().await.is_err() {
        // Nobody is left to say so; the network stops.
        std::future::pending().await
    }
}

async fn dial(peer: &Peer, shared: &Shared) -> Result<Channel<TcpStream>, ChannelError> {
    let dialling = async {
        let stream = TcpStream::connect(peer.address).await?;
        stream.set_nodelay(true)?;
        channel::initiate(stream, &shared.local, Role::from(shared.config.me), peer.key).await
    };
    let in_time = timeout(shared.config.timing.handshake_timeout, dialling).await;
    in_time.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Logs the first failure, and then ever more rarely: an absent peer is dialled for ever.
fn log_failure(peer: &Peer, error: &ChannelError, failures_before: u32) {
    if failures_before == 0 || (failures_before + 1).is_power_of_two() {
        let (id, address) = (peer.id, peer.address);
        tracing::warn!(peer = %id, %address, %error, failures_before, "cannot connect");
    }
}
