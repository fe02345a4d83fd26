//! A dialler that holds no key: whatever it sends, it is let in nowhere and nothing panics.
#![no_main]

use althing_node::channel::{Local, Refusal, SecretKey, accept};
use althing_types::GroupId;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    runtime.block_on(async {
        let (mut dialler, acceptor) = tokio::io::duplex(1 << 17);
        dialler.write_all(bytes).await.expect("it fits into the pipe");
        dialler.shutdown().await.expect("a pipe can be closed");
        let local = Local { secret: SecretKey::from([7; 32]), group: GroupId([1; 16]) };
        let admitted = accept(acceptor, &local, |_, _| -> Result<(), Refusal> {
            panic!("a handshake without a key came through")
        });
        assert!(admitted.await.is_err());
    });
});
