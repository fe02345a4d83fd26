use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Once;
use std::{panic, thread};

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::sync::oneshot;

use super::EdgeError;

/// Connections at once, at most.
const MAX_CONNECTIONS: usize = 256;

/// What is kept of each topic filter for subscribers that are slow or away: so many bytes, in so many
/// segments.
const SEGMENT_BYTES: usize = 1 << 20;
const SEGMENTS: usize = 16;

/// The longest message.
const MAX_PAYLOAD_BYTES: usize = 256 << 10;

/// The thread of rumqttd without which a broker passes nothing on.
const ROUTER: &str = "router";

/// The exit code of an edge whose broker's router panicked.
const ROUTER_PANICKED: i32 = 70;

/// Ends the process if the broker's router panics: rumqttd goes on without it, deaf and mute, and some
/// clients know how to make it panic. Whoever keeps the edge running starts it again.
fn end_with_the_router() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            report(info);
            if thread::current().name().is_some_and(|name| name.starts_with(ROUTER)) {
                std::process::exit(ROUTER_PANICKED);
            }
        }));
    });
}

/// Starts a broker in this process, which runs until the process ends. What is returned resolves when
/// the broker has ended after all: the port is taken.
pub(super) fn start(address: SocketAddr) -> Result<oneshot::Receiver<()>, EdgeError> {
    end_with_the_router();
    let (ending, ended) = oneshot::channel();
    thread::Builder::new()
        .name("broker".to_owned())
        .spawn(move || {
            if let Err(error) = Broker::new(config(address)).start() {
                tracing::error!(%error, "the embedded broker failed");
            }
            // The edge may have ended before.
            let _ = ending.send(());
        })
        .map_err(EdgeError::Thread)?;
    Ok(ended)
}

fn config(address: SocketAddr) -> Config {
    let server = ServerSettings {
        name: "mqtt".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: MAX_PAYLOAD_BYTES,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        router: RouterConfig {
            max_connections: MAX_CONNECTIONS,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("mqtt".to_owned(), server)])),
        ..Config::default()
    }
}
