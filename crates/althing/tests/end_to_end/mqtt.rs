//! Debian's MQTT programs: a broker, a sensor that publishes, a heater that subscribes.

use super::process::{Kept, Lines, until};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{ChildStdin, Command, Stdio};
use tempfile::TempDir;

/// A `mosquitto` of the test's own.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) port: u16,
    _process: Kept,
    _home: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let file = home.path().join("mosquitto.conf");
        std::fs::write(&file, format!("listener {port} 127.0.0.1\nallow_anonymous true\n"))
            .expect("the broker's configuration can be written");
        // Debian has it where only the superuser looks for programs.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("mosquitto");
        command.env("PATH", path).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Kept::start(&mut command, "mosquitto");
        until("the start of mosquitto", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Self { port, _process: process, _home: home }
    }
}

/// A sensor: each line becomes a message.
#[derive(Debug)]
pub(crate) struct Publisher {
    lines: ChildStdin,
    _process: Kept,
}

impl Publisher {
    pub(crate) fn start(port: u16, topic: &str) -> Self {
        let mut command = Command::new("mosquitto_pub");
        command.args(place(port, topic)).stderr(Stdio::null());
        let mut process =
            Kept::start(command.args(["-l", "-q", "1"]).stdin(Stdio::piped()), "mosquitto-clients");
        Self { lines: process.0.stdin.take().expect("piped"), _process: process }
    }

    pub(crate) fn publish(&mut self, message: &str) {
        writeln!(self.lines, "{message}").expect("mosquitto_pub takes a line");
    }
}

/// The devices of the greenhouse, at the broker on `port`.
pub(crate) fn heater_and_sensor(port: u16) -> (Subscriber, Publisher) {
    let heater = Subscriber::start(port, "greenhouse/heater", "the-heater");
    (heater, Publisher::start(port, "greenhouse/temperature"))
}

/// Somebody who subscribes, and whose session outlives a connection.
#[derive(Debug)]
pub(crate) struct Subscriber {
    messages: Lines,
    _process: Kept,
}

impl Subscriber {
    /// Subscribes, and returns when the broker has said that it did.
    pub(crate) fn start(port: u16, topic: &str, id: &str) -> Self {
        // Line by line: into a pipe it would keep the confirmation to itself.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub"]).args(place(port, topic)).stdin(Stdio::null());
        command.args(["-q", "1", "-c", "-i", id, "-d", "-F", "message %p"]).stdout(Stdio::piped());
        let mut process = Kept::start(&mut command, "mosquitto-clients");
        let messages = Lines::of(process.0.stdout.take().expect("piped"));
        messages.next("confirmation of the subscription (by Debian's mosquitto-clients)", |line| {
            line.starts_with("Subscribed").then_some(())
        });
        Self { messages, _process: process }
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.messages.next("message", |line| line.strip_prefix("message ").map(str::to_owned))
    }
}

/// Where to connect to, and the topic.
fn place(port: u16, topic: &str) -> [String; 6] {
    ["-h", "127.0.0.1", "-p", &port.to_string(), "-t", topic].map(str::to_owned)
}
