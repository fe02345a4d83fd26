//! A greenhouse with a sensor and a heater, on the other side of an MQTT broker. It knows nothing of
//! replication; it only remembers what a thermostat without a fault would have told it.

use miette::{IntoDiagnostic, Result, WrapErr};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::interval;

const READINGS: &str = "greenhouse/temperature";
const COMMANDS: &str = "greenhouse/heater";

/// A reading so often.
const READING_EVERY: Duration = Duration::from_millis(40);

/// Below this the heater goes on, above the other off; as `examples/greenhouse.yaml` says.
const ON_BELOW: f64 = 20.5;
const OFF_ABOVE: f64 = 21.5;
/// The first command follows this.
const TARGET: f64 = 21.0;

/// What happened in the greenhouse.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) readings: u64,
    /// The commands that the readings call for, each with the time of its reading.
    pub(super) called_for: Vec<(&'static str, Instant)>,
    /// The commands that came.
    pub(super) came: Vec<(String, Instant)>,
}

impl Record {
    /// Commands that differ from what was called for, or that nothing called for.
    pub(super) fn wrong(&self) -> usize {
        let is_wrong = |(i, (command, _)): (usize, &(String, Instant))| {
            self.called_for.get(i).is_none_or(|(right, _)| command != right)
        };
        self.came.iter().enumerate().filter(|item| is_wrong(*item)).count()
    }

    /// Commands that were called for and have not come.
    pub(super) fn missing(&self) -> usize {
        self.called_for.len().saturating_sub(self.came.len())
    }

    /// How long each command took, from its reading on, for those since `from`.
    pub(super) fn delays_since(&self, from: Instant) -> Vec<Duration> {
        let pairs = self.called_for.iter().zip(&self.came);
        let mut delays: Vec<_> = pairs
            .filter(|((_, read), _)| *read >= from)
            .map(|((_, read), (_, came))| *came - *read)
            .collect();
        delays.sort();
        delays
    }
}

/// The greenhouse at work.
pub(super) struct Greenhouse {
    record: Arc<Mutex<Record>>,
    is_reading: Arc<AtomicBool>,
    sensor: JoinHandle<()>,
    heater: JoinHandle<()>,
}

impl Greenhouse {
    /// Connects to the broker and starts reading and heating.
    pub(super) async fn open(broker: SocketAddr) -> Result<Self> {
        let (sensor_client, mut sensor_events) = device("the-sensor", broker);
        let (heater_client, mut heater_events) = device("the-heater", broker);
        heater_client.subscribe(COMMANDS, QoS::AtLeastOnce).await.into_diagnostic()?;
        loop {
            let event = heater_events.poll().await.into_diagnostic();
            if let Event::Incoming(Packet::SubAck(_)) = event.wrap_err("the MQTT broker does not answer")? {
                break;
            }
        }
        let record = Arc::new(Mutex::new(Record::default()));
        let kept = Arc::clone(&record);
        let heater = tokio::spawn(async move {
            // The client goes with its event loop.
            let _client = heater_client;
            while let Ok(event) = heater_events.poll().await {
                if let Event::Incoming(Packet::Publish(message)) = event {
                    let command = String::from_utf8_lossy(&message.payload).trim_matches('"').to_owned();
                    lock(&kept).came.push((command, Instant::now()));
                }
            }
        });
        let is_reading = Arc::new(AtomicBool::new(true));
        let read = read_while(Arc::clone(&is_reading), sensor_client, Arc::clone(&record));
        let sensor = tokio::spawn(async move {
            let deliver = async { while sensor_events.poll().await.is_ok() {} };
            tokio::join!(read, deliver);
        });
        Ok(Self { record, is_reading, sensor, heater })
    }

    /// What happened so far.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// No more readings. Those under way are still delivered, and commands still come.
    pub(super) fn stop_reading(&self) {
        self.is_reading.store(false, Ordering::Relaxed);
    }
}

impl Drop for Greenhouse {
    fn drop(&mut self) {
        self.sensor.abort();
        self.heater.abort();
    }
}

/// A device's connection to the broker.
fn device(name: &str, broker: SocketAddr) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(name, broker.ip().to_string(), broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut events) = AsyncClient::new(options, 64);
    events.network_options.set_tcp_nodelay(true);
    (client, events)
}

/// Each step the air warms or cools as the heater was last told to, and the sensor reads it.
async fn read_while(is_reading: Arc<AtomicBool>, client: AsyncClient, record: Arc<Mutex<Record>>) {
    let mut ticks = interval(READING_EVERY);
    let mut temperature: f64 = 20.0;
    let mut thermostat = None;
    while is_reading.load(Ordering::Relaxed) {
        ticks.tick().await;
        let is_heating = lock(&record).came.last().is_some_and(|(command, _)| command == "on");
        temperature = (temperature + if is_heating { 0.17 } else { -0.13 }).clamp(10.0, 30.0);
        let reading = format!("{temperature:.2}");
        {
            let mut record = lock(&record);
            record.readings += 1;
            let right = right_command(thermostat, reading.parse().expect("it was just written"));
            if thermostat.replace(right) != Some(right) {
                record.called_for.push((if right { "on" } else { "off" }, Instant::now()));
            }
        }
        if client.publish(READINGS, QoS::AtLeastOnce, false, reading).await.is_err() {
            return;
        }
    }
}

/// Whether to heat at this temperature, having heated before or not.
fn right_command(before: Option<bool>, temperature: f64) -> bool {
    match before {
        Some(true) => temperature < OFF_ABOVE,
        Some(false) => temperature < ON_BELOW,
        None => temperature < TARGET,
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // A record is consistent after each of its changes, so a panic elsewhere does not spoil it.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_surplus_and_missing_commands_are_told() {
        let now = Instant::now();
        let came = |commands: &[&str]| commands.iter().map(|c| ((*c).to_owned(), now)).collect();
        let called_for = vec![("on", now), ("off", now)];
        let mut record = Record { readings: 2, called_for, came: came(&["on"]) };
        assert_eq!((record.wrong(), record.missing()), (0, 1));
        record.came = came(&["on", "on"]);
        assert_eq!((record.wrong(), record.missing()), (1, 0));
        record.came = came(&["on", "off", "on"]);
        assert_eq!((record.wrong(), record.missing()), (1, 0));
    }

    #[test]
    fn the_right_thermostat_has_a_band() {
        assert!(right_command(None, 20.9) && !right_command(None, 21.0));
        assert!(right_command(Some(true), 21.4) && !right_command(Some(true), 21.5));
        assert!(right_command(Some(false), 20.4) && !right_command(Some(false), 20.5));
    }
}
