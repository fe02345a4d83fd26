//! Whatever comes in at a port: nothing ends, nothing else than the readings reaches the heater.

use super::deployment::Deployment;
use super::mqtt::{Publisher, Subscriber, heater_and_sensor};
use super::process::{example, until};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Connections that stay open and say nothing, at each port.
const SILENT: usize = 40;

/// How long to wait for what a port answers to bytes that mean nothing.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);

#[test]
fn hostile_bytes_at_every_port_change_nothing() {
    let deployment = Deployment::up(&example("greenhouse.yaml"));
    let port = deployment.mqtt_port();
    let (heater, mut sensor) = heater_and_sensor(port);
    sensor.publish("15");
    assert_eq!(heater.message(), "on");
    let before = deployment.pids();

    let mut ports = replicas(&deployment);
    assert_eq!(ports.len(), 4);
    ports.push(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut open = Vec::new();
    for address in ports {
        for bytes in hostile() {
            send(address, &bytes);
        }
        open.extend((0..SILENT).filter_map(|_| TcpStream::connect(address).ok()));
    }

    sensor.publish("27.5");
    assert_eq!(heater.message(), "off");
    // Also for those who come only now, while the silent ones still wait.
    let later = Subscriber::start(port, "greenhouse/heater", "another-heater");
    let mut another = Publisher::start(port, "greenhouse/temperature");
    another.publish("15");
    assert_eq!((heater.message(), later.message()), ("on".to_owned(), "on".to_owned()));
    assert_eq!(deployment.pids(), before, "{}", deployment.complaints());
    drop(open);
    deployment.end();
}

#[test]
fn messages_that_are_no_readings_are_dropped_and_counted() {
    let deployment = Deployment::up(&example("greenhouse.yaml"));
    let (heater, mut sensor) = heater_and_sensor(deployment.mqtt_port());
    let long = "9".repeat(60_000);
    for message in ["15", "", "warm", "{", "null", "NaN", "1e999", "\"27\"", "[27]", "900", &long, "27.5"] {
        sensor.publish(message);
    }
    assert_eq!((heater.message(), heater.message()), ("on".to_owned(), "off".to_owned()));
    let edge = deployment.process("edge").expect("the edge answers");
    let wire = &edge["groups"][0]["incoming"][0];
    assert_eq!(wire["received"], 12, "{wire}");
    assert!(wire["refused"].as_u64() >= Some(8), "{wire}");
    deployment.has_published("thermostat", 2);
    deployment.end();
}

fn replicas(deployment: &Deployment) -> Vec<SocketAddr> {
    let file = deployment.directory().join("groups/thermostat.json");
    let group: Value = serde_json::from_slice(&fs::read(file).expect("a group file")).expect("JSON");
    let replicas = group["replicas"].as_array().expect("a list of replicas");
    let address = |replica: &Value| replica["address"].as_str().and_then(|text| text.parse().ok());
    replicas.iter().map(|replica| address(replica).expect("an address")).collect()
}

fn hostile() -> Vec<Vec<u8>> {
    // A xorshift generator: the same noise in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    };
    let mut all = vec![
        Vec::new(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        // Lengths that promise far more than comes, in either byte order.
        [&[0xff, 0xff, 0xff, 0x7f][..], &[0; 64]].concat(),
        [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 64]].concat(),
        // MQTT: the longest CONNECT that can be announced, and one with an endless length.
        vec![0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 4],
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        // A publication before any CONNECT, and a CONNECT that is cut off.
        b"\x30\x19\x00\x16greenhouse/temperature99".to_vec(),
        vec![0x10, 0x10, 0, 4, b'M', b'Q'],
    ];
    all.extend([1, 3, 64, 1000, 70_000].map(noise));
    all
}

/// Sends bytes and takes whatever comes back, or nothing.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port takes connections");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout can be set");
    stream.set_write_timeout(Some(ANSWER_WITHIN)).expect("a timeout can be set");
    // The other side may hang up at any time: that is its right.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 256]);
    let _ = stream.shutdown(Shutdown::Both);
}

/// One MQTT packet: its type, and what follows its length.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(body.len()).expect("a short packet")], body].concat()
}

#[test]
fn a_client_that_makes_the_broker_panic_stops_it_for_a_moment_only() {
    let deployment = Deployment::up(&example("greenhouse.yaml"));
    let port = deployment.mqtt_port();
    let edge = deployment.process("edge").expect("the edge answers")["pid"].clone();
    // A persistent session that shares a subscription and goes without acknowledging.
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    for packet in [
        packet(0x10, b"\0\x04MQTT\x04\0\0\x1e\0\x04evil"),
        packet(0x82, b"\0\x01\0\x0a$share/g/t\x01"),
        packet(0x32, b"\0\x01t\0\x02x"),
    ] {
        client.write_all(&packet).expect("sent");
        let mut answer = [0; 64];
        assert!(client.read(&mut answer).expect("an answer") > 0);
    }
    drop(client);
    until("another edge", || (deployment.process("edge")?["pid"] != edge).then_some(()));
    let heater = Subscriber::start(port, "greenhouse/heater", "the-heater");
    until("topics that are heard again", || {
        let edge = deployment.process("edge")?;
        (edge["groups"][0]["incoming"][0]["is_connected"] == true).then_some(())
    });
    let mut sensor = Publisher::start(port, "greenhouse/temperature");
    sensor.publish("15");
    assert_eq!(heater.message(), "on");
    deployment.end();
}
