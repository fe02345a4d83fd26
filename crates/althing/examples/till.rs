//! A service of one's own, run as a replica group: the guide's page "Writing a service".
//!
//! ```text
//! cargo run --release --example till -- serve till
//! cargo run --release --example till -- pay 5             in another terminal
//! ```

// ANCHOR: service
use althing::types::{decode, encode};
use althing::{ClientId, Context, InstallError, Outcome, Pages, Service};
use std::collections::BTreeMap;

/// A till: each client pays into its own account and reads its own balance.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Till {
    balances: BTreeMap<u64, u64>,
}

impl Till {
    fn pay(&mut self, client: ClientId, operation: &[u8]) -> Result<u64, &'static str> {
        let amount: u64 = decode(operation, 8).map_err(|_| "an operation is an amount: eight bytes")?;
        let balance = self.balances.entry(client.0).or_default();
        *balance = balance.checked_add(amount).ok_or("nobody is that rich")?;
        Ok(*balance)
    }
}

impl Service for Till {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        encode(&self.pay(context.client, operation)).into()
    }

    fn query(&self, _operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        let balance = self.balances.get(&client.0).copied().unwrap_or_default();
        Some(encode(&Ok::<u64, &str>(balance)))
    }

    fn save(&mut self, pages: &mut Pages) {
        // Written again as it was, a page costs no more than that.
        pages.set(0, encode(&self.balances));
    }

    fn install(&mut self, pages: &Pages, _changed: &[u32]) -> Result<(), InstallError> {
        let page = pages.sole()?;
        self.balances =
            decode(page, page.len()).map_err(|_| InstallError { page: 0, reason: "no table of balances" })?;
        Ok(())
    }
}
// ANCHOR_END: service

// ANCHOR: main
use althing::Services;
use althing::node::{GroupClient, config::ClientFile};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pay", amount] => pay(amount, ".althing/till"),
        ["pay", amount, deployment] => pay(amount, deployment),
        // The whole of the `althing` command, with `till` beside the services that it has.
        _ => return althing::run(Services::default().with("till", Till::default)),
    }
    .map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |balance| {
            println!("{balance}");
            ExitCode::SUCCESS
        },
    )
}

/// Pays as the first of the group's clients, and tells the balance.
#[tokio::main(flavor = "current_thread")]
async fn pay(amount: &str, deployment: &str) -> Result<u64, Box<dyn Error>> {
    let amount: u64 = amount.parse()?;
    let file = ClientFile::load(&Path::new(deployment).join("clients/client-0.json"))?;
    let client = GroupClient::connect(&file).await?;
    let answer = client.invoke(encode(&amount)).await?;
    let balance: Result<u64, String> = decode(&answer.result, answer.result.len())?;
    Ok(balance?)
}
// ANCHOR_END: main
