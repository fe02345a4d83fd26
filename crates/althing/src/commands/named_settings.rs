//! Settings by their names in group files: as arguments change them, and how two of them differ.

use miette::{IntoDiagnostic, Result, miette};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Changed {
    pub(crate) name: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// These settings with some of them changed, each by a NAME=VALUE that was given with `option`.
pub(crate) fn with<T: Serialize + DeserializeOwned>(base: &T, option: &str, changes: &[String]) -> Result<T> {
    let mut settings = by_name(base)?;
    for change in changes {
        let (name, value) =
            change.split_once('=').ok_or_else(|| miette!("{option} takes NAME=VALUE, and not `{change}`"))?;
        let Some(setting) = settings.get_mut(name) else {
            let known: Vec<_> = settings.keys().collect();
            return Err(miette!("{option}: there is no setting `{name}`; there are {known:?}"));
        };
        let given = serde_json::from_str(value);
        *setting = match setting {
            // Such a setting names what it stands for.
            Value::String(_) => Value::String(value.to_owned()),
            _ => given.map_err(|_| {
                miette!("{option} {name}: `{value}` is no number, `true`, `false` or list such as [3]")
            })?,
        };
    }
    serde_json::from_value(settings.into()).map_err(|error| miette!("{option}: {error}"))
}

/// The NAME=VALUEs that are about one of these settings, and the others.
pub(crate) fn split<T: Serialize>(settings: &T, changes: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let known = by_name(settings)?;
    let is_known = |change: &String| change.split_once('=').is_some_and(|(name, _)| known.contains_key(name));
    Ok(changes.iter().cloned().partition(is_known))
}

/// Those that are not the same in both. One that only one of them has is `null` in the other.
pub(crate) fn differences(before: &impl Serialize, after: &impl Serialize) -> Result<Vec<Changed>> {
    let (before, mut after) = (by_name(before)?, by_name(after)?);
    let mut changed = Vec::new();
    for (name, before) in before {
        let after = after.remove(&name).unwrap_or(Value::Null);
        changed.extend((before != after).then_some(Changed { name, before, after }));
    }
    let before = Value::Null;
    changed.extend(after.into_iter().map(|(name, after)| Changed { name, before: before.clone(), after }));
    Ok(changed)
}

fn by_name(settings: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(settings).into_diagnostic()? {
        Value::Object(settings) => Ok(settings),
        other => Err(miette!("settings are written by name, and not as {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_node::config::{RawEngine, RawPaxos, RawPbft, RawSettings, RequestAuthKind};

    #[test]
    fn what_another_protocol_does_not_have_differs_too() {
        let pbft = RawPbft { pipeline: 5, ..RawPbft::default() };
        let (pbft, paxos) = (RawSettings::Pbft(pbft), RawSettings::Paxos(RawPaxos::default()));
        let changed = differences(&pbft, &paxos).expect("they have names");
        let of = |name: &str| changed.iter().find(|changed| changed.name == name);
        let what = |name| of(name).map(|Changed { before, after, .. }| (before.clone(), after.clone()));
        assert_eq!(what("protocol"), Some(("pbft".into(), "paxos".into())));
        assert_eq!(what("pipeline"), Some((5.into(), 16.into())));
        assert_eq!(what("tentative_requests"), Some((4.into(), Value::Null)));
        assert_eq!(what("view_timeout_ms"), None);
        let back = differences(&paxos, &pbft).expect("they have names");
        assert!(back.iter().any(|changed| changed.name == "primary_slack" && changed.before.is_null()));
    }

    #[test]
    fn what_was_changed_is_what_differs() {
        let base = RawPbft { pipeline: 5, ..RawPbft::default() };
        let asked = ["view_timeout_ms=250", "adaptive_batching=false", "pipeline=5"].map(str::to_owned);
        let changed = with(&base, "--set", &asked).expect("it makes sense");
        let expected = RawPbft { view_timeout_ms: 250, adaptive_batching: false, ..base.clone() };
        assert_eq!(changed, expected);
        let mut names: Vec<_> = differences(&base, &changed).expect("they have names");
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let of = |name: &str, before: Value, after: Value| Changed { name: name.to_owned(), before, after };
        let expected = [
            of("adaptive_batching", true.into(), false.into()),
            of("view_timeout_ms", 1000.into(), 250.into()),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_of_one_kind_of_settings_is_told_from_what_is_of_another() {
        let asked =
            ["pipeline=5", "request_auth=signatures", "max_outstanding=9", "what=1"].map(str::to_owned);
        let (engine, others) = split(&RawEngine::default(), &asked).expect("they have names");
        assert_eq!(others, ["pipeline=5", "what=1"]);
        let changed = with(&RawEngine::default(), "--set", &engine).expect("it makes sense");
        let request_auth = RequestAuthKind::Signatures;
        assert_eq!(changed, RawEngine { max_outstanding: 9, request_auth, ..RawEngine::default() });
        let wrong = with(&RawEngine::default(), "--set", &["request_auth=passwords".to_owned()]);
        let error = wrong.expect_err("there is no such kind").to_string();
        assert!(error.contains("passwords") && error.contains("signatures"), "{error}");
    }

    #[test]
    fn an_error_names_the_option_and_what_there_is() {
        let error = |change: &str| {
            let error = with(&RawPbft::default(), "--set", &[change.to_owned()]);
            format!("{}", error.expect_err("it makes no sense"))
        };
        assert!(error("pipeline").starts_with("--set takes NAME=VALUE"));
        assert!(
            error("pipelines=3").contains("`pipelines`") && error("pipelines=3").contains("\"pipeline\"")
        );
        assert!(error("pipeline=x").contains("`x` is no number"));
        assert!(error("pipeline=-1").starts_with("--set: "));
    }
}
