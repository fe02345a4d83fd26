/// The candidate that `name` was probably meant to be: few edits away, for its length.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits (insertion, deletion, substitution, swap of neighbours) from one text to the other, case
/// not counted.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<_> = a.chars().flat_map(char::to_lowercase).take(80).collect();
    let b: Vec<_> = b.chars().flat_map(char::to_lowercase).take(80).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swaps { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_fetched() {
        let names = ["temperature", "heater", "in"];
        let found = |name| nearest(name, names.into_iter());
        assert_eq!(found("temprature").as_deref(), Some("temperature"));
        assert_eq!(found("haeter").as_deref(), Some("heater"));
        assert_eq!(found("Heater").as_deref(), Some("heater"));
        assert_eq!(found("im").as_deref(), Some("in"));
        assert_eq!(found("humidity"), None);
        assert_eq!(found(""), None);
    }
}
