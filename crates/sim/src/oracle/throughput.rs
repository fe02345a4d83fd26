use super::{Verdict, Violation};
use althing_types::View;
use std::collections::BTreeSet;

/// Whether each client completed at least `share` in 1000 of what it completes in the same run without
/// faults.
pub(crate) fn hold_to_share(share: u64, completed: &[u64], undisturbed: &[u64]) -> Verdict {
    for (client, (completed, undisturbed)) in completed.iter().zip(undisturbed).enumerate() {
        if completed * 1000 < undisturbed * share {
            let message = format!(
                "client {client} completed {completed} operations, less than {share} in 1000 of {undisturbed}"
            );
            return Err(Violation::new("throughput", message));
        }
    }
    Ok(())
}

/// Whether the first primary of a run without faults was kept, given the views that were entered.
pub(crate) fn keep_primary(views: &BTreeSet<View>) -> Verdict {
    match views.last() {
        Some(last) if last.0 > 0 => {
            Err(Violation::new("patience", format!("without any fault the group went to {last}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_served_worst_is_the_measure() {
        assert_eq!(hold_to_share(250, &[25, 900], &[100, 1000]), Ok(()));
        assert!(hold_to_share(250, &[24, 1000], &[100, 1000]).is_err());
    }
}
