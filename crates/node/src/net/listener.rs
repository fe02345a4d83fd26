use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    allowance::Allowance,
    connection,
    half_open::HalfOpen,
    shared::{Attached, Shared, Stop},
};
use crate::channel::{self, Channel, ChannelError};

/// The pause after the system has refused us a connection, as it does when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// About what it costs to take a connection and to end it again: by the system, which is not measured, and
/// for its task.
const CONNECTION_COST: Duration = Duration::from_micros(30);

/// Accepts connections until the network stops.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: Stop) {
    let half_open = Arc::new(HalfOpen::new(shared.config.limits.max_half_open));
    let connections = Allowance::new(shared.config.limits.connections);
    for number in 0.. {
        let accepting = async {
            connections.turn().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = stop.wait() => return,
            accepted = accepting => accepted,
        };
        connections.charge(Instant::now(), CONNECTION_COST);
        match accepted {
            Ok((stream, address)) => {
                let incoming = Incoming { number, address, half_open: Arc::clone(&half_open) };
                incoming.spawn(stream, &shared, &stop);
            }
            Err(error) => {
                shared.on_accept_failed(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection whose other end is not known yet.
struct Incoming {
    number: u64,
    address: SocketAddr,
    half_open: Arc<HalfOpen>,
}

impl Incoming {
    fn spawn(self, stream: TcpStream, shared: &Arc<Shared>, stop: &Stop) {
        let (number, address) = (self.number, self.address.ip());
        let half_open = Arc::clone(&self.half_open);
        // The task begins when it is registered, since its end takes the registration back.
        let (registered, begin) = oneshot::channel();
        let (task_shared, task_stop) = (Arc::clone(shared), stop.clone());
        let task = tokio::spawn(async move {
            if begin.await == Ok(()) {
                self.serve(stream, &task_shared, task_stop).await;
            }
        });
        if half_open.insert(number, address, task.abort_handle()) {
            shared.on_evicted();
        }
        // The task can only be gone if the runtime is ending.
        let _ = registered.send(());
    }

    async fn serve(self, stream: TcpStream, shared: &Arc<Shared>, mut stop: Stop) {
        let caller = self.address.ip();
        let accepted = tokio::select! {
            () = stop.wait() => return,
            accepted = accept(stream, caller, shared) => accepted,
        };
        self.half_open.remove(self.number);
        match accepted {
            Ok((channel, attached)) => {
                shared.callers.has_proven(caller);
                connection::run(attached, channel, shared, &stop).await;
            }
            Err(error) => shared.on_refused(self.address, &error),
        }
    }
}

/// What is to be computed waits for its turn, and what is not yet known to be anybody's is not.
async fn accept(
    stream: TcpStream,
    caller: IpAddr,
    shared: &Arc<Shared>,
) -> Result<(Channel<TcpStream>, Attached), ChannelError> {
    let accepting = async {
        stream.set_nodelay(true)?;
        let call = channel::hear(stream, &shared.local).await?;
        let handshakes = shared.handshakes(caller);
        handshakes.turn().await;
        if call.is_over() {
            // It would cost those their time who still wait.
            return Err(ChannelError::Closed);
        }
        handshakes.spend_on(call.accept(&shared.local, |key, role| shared.admit(key, role))).await
    };
    let in_time = timeout(shared.config.timing.handshake_timeout, accepting).await;
    in_time.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}
