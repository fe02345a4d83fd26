//! `althing bench`: what it measures is there, and adds up.

use super::commands::json;
use super::process::{expect, run};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// `althing bench --json` with these arguments and one short round: its rows.
#[track_caller]
fn bench(arguments: &str) -> Vec<Value> {
    let common = "--warm-up 0.1 --rounds 1 --json";
    let arguments = ["bench"].into_iter().chain(arguments.split(' ')).chain(common.split(' '));
    let report = json(&run(arguments), 0);
    assert_eq!(report["format"], 1);
    assert!(report["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0), "{report}");
    report["rows"].as_array().expect("rows").clone()
}

#[track_caller]
fn number(row: &Value, pointer: &str) -> f64 {
    row.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {row}"))
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap_or_default()).collect()
}

#[test]
fn a_closed_loop_measures_both_contenders() {
    let home = TempDir::new().expect("a temporary directory");
    let svg = home.path().join("bench.svg");
    let draw = format!("--clients 2 --load-processes 2 --seconds 0.5 --svg {}", svg.display());
    let rows = bench(&draw);
    assert_eq!(names(&rows), ["unreplicated", "pbft"]);
    for (row, replicas) in rows.iter().zip([1, 4]) {
        assert_eq!(
            (&row["loop"], &row["clients"], &row["replicas"]),
            (&"closed".into(), &2.into(), &replicas.into())
        );
        let operations = number(row, "/operations");
        assert!(operations >= 1.0, "{row}");
        assert!((number(row, "/operations_per_second/median") * 0.5 - operations).abs() < 1.0, "{row}");
        let [p50, p99] = ["/latency/p50_us", "/latency/p99_us"].map(|name| number(row, name));
        assert!(p50 > 0.0 && p50 <= p99, "{row}");
        // Two clients, one operation each: in 0.5 s they spend one second waiting, less what one that
        // began before the end took beyond it.
        assert!(number(row, "/latency/mean_us") * operations < 2.0 * 1e6, "{row}");
        let per_step: f64 = row["rounds"][0]["completed_per_100_ms"]
            .as_array()
            .expect("the course of the round")
            .iter()
            .filter_map(Value::as_f64)
            .sum();
        assert_eq!(per_step, operations);
        assert_eq!(number(row, "/failed"), 0.0);
        let processes = row["processes"].as_array().expect("processes");
        let of = |part: &str| processes.iter().filter(|process| process["part"] == part).count();
        assert_eq!((of("replica"), of("load")), (replicas, 2));
        assert!(processes.iter().all(|process| number(process, "/peak_memory_bytes") > 1e6), "{row}");
        assert!(number(row, "/cpu/replicas_us_per_operation") > 0.0, "{row}");
    }
    assert!(number(&rows[1], "/throughput_ratio/median") > 0.0);
    assert!(rows[0]["throughput_ratio"].is_null());
    let drawn = fs::read_to_string(svg).expect("it was drawn");
    assert!(drawn.starts_with("<svg") && drawn.contains("unreplicated") && drawn.contains("pbft"));
}

#[test]
fn an_open_loop_offers_what_it_was_told_and_says_when_that_was_too_much() {
    let rows = bench("--rate 20,1000000 --arrivals uniform --load-processes 2 --clients 8 --seconds 1");
    let (served, overloaded) = rows.split_at(2);
    for row in served {
        assert_eq!((&row["loop"], number(row, "/offered_per_second")), (&"open".into(), 20.0));
        assert_eq!(row["is_offered_rate_served"], true, "{row}");
        assert_eq!(number(row, "/latency/count"), 20.0, "{row}");
        assert!(number(row, "/generator_wait/p50_us") <= number(row, "/latency/p50_us"), "{row}");
    }
    for row in overloaded {
        assert_eq!(row["is_offered_rate_served"], false, "{row}");
        // All million count, sent or not; those that were not waited for half a second on average.
        assert_eq!(number(row, "/latency/count"), 1e6);
        assert!(number(row, "/unsent") > 1e5 && number(row, "/latency/p99_us") > 5e5, "{row}");
    }
}

#[test]
fn reads_of_the_store_find_what_was_filled_in() {
    let rows = bench("--service kv --keys 20 --request-bytes 64 --read-share 0.5 --clients 2 --seconds 0.5");
    for row in &rows {
        // A read of a key without a value would be no right answer.
        assert_eq!(number(row, "/failed"), 0.0, "{row}");
        let [reads, updates] = ["/read_latency/count", "/update_latency/count"].map(|name| number(row, name));
        assert_eq!(reads + updates, number(row, "/latency/count"));
        assert!(reads > 0.0 && updates > 0.0, "{row}");
    }
}

#[test]
fn a_killed_primary_shows_as_a_gap_and_no_operation_fails() {
    let rows = bench(
        "--rate 20 --arrivals uniform --clients 32 --seconds 6 --durability sync --timeout 50 --inject stop:primary@1",
    );
    let [baseline, pbft] = rows.as_slice() else { panic!("two rows, and not {rows:?}") };
    let injected = |row: &Value| row["rounds"][0]["injected"].as_array().cloned().expect("a list");
    assert!(injected(baseline).is_empty(), "the unreplicated server is spared");
    let injected = injected(pbft);
    assert_eq!((injected.len(), &injected[0]["fault"]), (1, &"stop:primary@1".into()));
    assert_eq!(injected[0]["replicas"], serde_json::json!(["pbft-0"]), "replica 0 leads the first view");
    assert!(number(&injected[0], "/at_ms") >= 1000.0);
    // The view has to change before anything is done again.
    assert!(number(&injected[0], "/longest_gap/length_ms") > 100.0, "{}", injected[0]);
    assert_eq!(number(pbft, "/failed"), 0.0, "{pbft}");
    assert!(number(pbft, "/views_left") >= 1.0, "{pbft}");
    let gap = number(&injected[0], "/longest_gap/length_ms");
    // An open loop sees it: some operation was due within 50 ms of the gap's begin.
    assert!(number(pbft, "/latency/max_us") / 1000.0 + 100.0 > gap, "{pbft}");
}

#[test]
fn durabilities_are_compared_side_by_side_and_a_crashed_backup_is_started_again() {
    let rows = bench("--clients 1 --seconds 1.5 --durability none,sync --inject crash:3@0.1");
    assert_eq!(names(&rows), ["unreplicated", "pbft-none", "pbft-sync"]);
    for row in &rows {
        assert!(number(row, "/operations") >= 1.0 && number(row, "/failed") == 0.0, "{row}");
    }
    for row in &rows[1..] {
        let injected = &row["rounds"][0]["injected"][0]["replicas"];
        let name = row["name"].as_str().expect("a name");
        assert_eq!(*injected, serde_json::json!([format!("{name}-3")]));
    }
}

#[test]
fn a_benchmark_that_makes_no_sense_is_refused() {
    for arguments in [
        ["bench", "--clients", "0"],
        ["bench", "--rounds", "0"],
        ["bench", "--seconds", "0"],
        ["bench", "--rate", "0"],
        ["bench", "--inject", "crash:primary@3"],
    ] {
        let (out, error) = expect(&run(arguments), 2);
        assert!(out.is_empty() && error.contains(arguments[1]), "{error}");
    }
}
