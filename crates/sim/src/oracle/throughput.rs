use super::{Verdict, Violation};
use althing_types::View;

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

/// Whether a run without faults keeps its first primary, given a view that was entered.
pub(crate) fn keep_primary(entered: View) -> Verdict {
    if entered.0 == 0 {
        return Ok(());
    }
    Err(Violation::new("patience", format!("without any fault the group went to {entered}")))
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
