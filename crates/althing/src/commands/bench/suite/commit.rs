use super::{ATTACHMENTS, PAGE};
use std::path::Path;
use std::process::Command;

/// The commit of the checkout that holds `directory`, as the page states it. The suite is run from a
/// checkout that was just built, as `just benchmarks` does.
pub(super) fn commit_of(directory: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown: not in a git checkout".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    let suffix = if is_changed(&changed) { ", with changes that are not committed" } else { "" };
    format!("{}{suffix}", commit.trim())
}

/// Whether `git status` lists anything but what the suite itself writes.
fn is_changed(status: &str) -> bool {
    status.lines().filter_map(|line| line.get(3..)).any(|path| {
        let is_page = path == PAGE || path.ends_with(&format!("/{PAGE}"));
        let is_attachment = path.split('/').rev().nth(1) == Some(ATTACHMENTS);
        !is_page && !is_attachment
    })
}

#[cfg(test)]
mod tests {
    use super::is_changed;

    #[test]
    fn only_other_files_are_changes() {
        assert!(!is_changed(""));
        assert!(!is_changed(" M docs/src/benchmarks.md\n M docs/src/benchmarks/zero.svg\n"));
        assert!(is_changed(" M docs/src/benchmarks.md\nM  crates/node/src/lib.rs\n"));
        assert!(is_changed(" M docs/src/other-benchmarks.md\n"));
    }
}
