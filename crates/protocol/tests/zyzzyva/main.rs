//! Zyzzyva replicas in a hand-driven network: what each message, timer and restart leads to, and that nothing
//! that clients have decided is ever contradicted, whatever is lost, late or out of order.

mod acting;
mod chaos;
mod distrust;
mod gathering;
mod group;
mod lives;
mod modes;
mod node;
mod normal_case;
mod oracle;
mod orders;
mod requests;
mod restarts;
mod settling;
mod succession;
mod view_changes;
