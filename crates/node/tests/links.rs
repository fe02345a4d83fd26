//! The process of the links between sites, by its file and its control socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use althing_node::config::LinksConfig;
use althing_node::control::{self, LinkFault, LinkSelection, LinksReport, Request, Response, Status};
use althing_node::deployment::free_ports;
use althing_node::run_links;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it should have happened by now")
}

#[tokio::test]
async fn links_run_by_their_file_and_are_cut_and_mended_over_their_control_socket() {
    let directory = tempfile::tempdir().unwrap();
    let (path, socket) = (directory.path().join("config.json"), directory.path().join("control.sock"));
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listen: SocketAddr = free_ports(1).unwrap()[0];
    let way =
        json!({ "from": "vik", "to": "hofn", "listen": listen, "server": server.local_addr().unwrap() });
    let file = json!({
        "system": "two", "control": "control.sock", "delay_ms": 1, "uplink_bps": 10_000_000,
        "allow_injection": true, "sites": ["vik", "hofn"], "ways": [way]
    });
    std::fs::write(&path, file.to_string()).unwrap();
    let links = tokio::spawn(run_links(LinksConfig::load(&path).unwrap(), std::future::pending()));
    let ask = async |request: Request| soon(control::request(&socket, &request)).await.unwrap();
    let report = async || -> LinksReport {
        match ask(Request::Status).await {
            Response::Status(status) => match *status {
                Status::Links(report) => report,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    soon(async {
        while control::request(&socket, &Request::Status).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    let mut near = TcpStream::connect(listen).await.unwrap();
    let (mut far, _) = soon(server.accept()).await.unwrap();
    let cut = |fault| Request::InjectLink {
        links: LinkSelection::Pair { from: "vik".to_owned(), to: "hofn".to_owned() },
        fault,
    };
    assert_eq!(ask(cut(LinkFault::Cut)).await, Response::Done);
    near.write_all(b"hello").await.unwrap();
    let at_cut = report().await;
    let pair = &at_cut.pairs[0];
    assert_eq!((at_cut.system.as_str(), at_cut.uplink_bps, at_cut.pairs.len()), ("two", Some(10_000_000), 2));
    assert_eq!((pair.from.as_str(), pair.fault, pair.delivered_bytes), ("vik", LinkFault::Cut, 0));
    assert_eq!(ask(cut(LinkFault::None)).await, Response::Done);
    let mut bytes = [0; 5];
    soon(far.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"hello");
    assert_eq!(report().await.pairs[0].delivered_bytes, 5);

    let nowhere = LinkSelection::Site { site: "nowhere".to_owned() };
    let Response::Refused { reason } =
        ask(Request::InjectLink { links: nowhere, fault: LinkFault::Cut }).await
    else {
        panic!("there is no such site");
    };
    assert!(reason.contains("vik, hofn"), "{reason}");
    assert!(matches!(ask(Request::Corrupt).await, Response::Refused { .. }));
    assert_eq!(ask(Request::Shutdown).await, Response::Done);
    soon(links).await.unwrap().unwrap();
    assert!(!socket.exists());
}
