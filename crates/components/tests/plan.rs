//! Plans: their text and picture as people see them (`tests/plans/`; after a wanted change, run with
//! `BLESS=1` and look at the difference), and what programs rely on.

mod common;

use althing_components::plan::{ClientRole, PlannedEnd, Runs};
use althing_components::{Plan, Sink, SitePlan, Source, Spec, WireId};
use althing_types::ReplicaId;
use common::*;
use std::collections::BTreeSet;
use std::path::Path;

const EXAMPLES: [(&str, &str); 5] = [
    ("greenhouse", include_str!("../../../examples/greenhouse.yaml")),
    ("greenhouse-python", include_str!("../../../examples/greenhouse-python.yaml")),
    ("greenhouse-two-models", include_str!("../../../examples/greenhouse-two-models.yaml")),
    ("greenhouse-two-stage", TWO_STAGE),
    ("house", include_str!("plans/house.yaml")),
];

const SITES: [(&str, &str); 2] = [
    ("five-sites", include_str!("../../../examples/five-sites.yaml")),
    ("mixed-sites", include_str!("../../../examples/mixed-sites.yaml")),
];

fn site_plan(spec: &str) -> SitePlan {
    match Spec::parse(spec) {
        Ok(Spec::Sites(system)) => SitePlan::of(&system),
        other => panic!("no system of sites: {other:?}"),
    }
}

/// Compares with a file below this crate.
fn expect(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} has changed", path.display());
}

#[test]
fn plans_look_as_expected() {
    for (name, spec) in EXAMPLES {
        let plan = plan(spec);
        expect(&format!("tests/plans/{name}.txt"), &plan.text());
        expect(&format!("tests/plans/{name}.svg"), &plan.svg());
    }
    for (name, spec) in SITES {
        expect(&format!("tests/plans/{name}.txt"), &site_plan(spec).text());
    }
}

#[test]
fn the_book_shows_the_present_picture() {
    expect("../../docs/src/guide/greenhouse-two-stage.svg", &plan(TWO_STAGE).svg());
}

#[test]
fn the_json_of_a_plan_and_the_schema_stay_as_they_are() {
    let json = serde_json::to_string_pretty(&plan(TWO_STAGE)).unwrap();
    expect("tests/plans/greenhouse-two-stage.json", &(json + "\n"));
    let json = serde_json::to_string_pretty(&site_plan(SITES[1].1)).unwrap();
    expect("tests/plans/mixed-sites.json", &(json + "\n"));
    let schema = serde_json::to_string_pretty(&Spec::json_schema()).unwrap();
    expect("tests/plans/schema.json", &(schema + "\n"));
}

#[test]
fn examples_have_no_warnings() {
    for (name, spec) in EXAMPLES.into_iter().chain(SITES) {
        let warnings = Spec::parse(spec).unwrap().warnings().to_vec();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
}

#[test]
fn replication_changes_nothing_but_the_groups() {
    let replicated = include_str!("../../../examples/greenhouse.yaml");
    let single = replicated.replace("    replicate: { faults: byzantine, f: 1 }\n", "");
    assert_ne!(single, replicated);
    let (replicated, single) = (plan(replicated), plan(&single));
    assert_eq!(replicated.wires(), single.wires());
    assert_eq!((replicated.group(0).n, replicated.group(0).f), (4, 1));
    assert_eq!((single.group(0).n, single.group(0).f), (1, 0));
    assert_eq!(replicated.group(0).id, single.group(0).id);
    let names = |plan: &Plan| plan.processes().iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&single), ["thermostat-0", "edge"]);
    assert_eq!(names(&replicated), ["thermostat-0", "thermostat-1", "thermostat-2", "thermostat-3", "edge"]);
}

#[test]
fn every_client_is_one_of_its_own_and_every_wire_has_its_carriers() {
    for (_, spec) in EXAMPLES {
        let plan = plan(spec);
        let clients: Vec<_> = plan.groups().iter().flat_map(|g| &g.clients).collect();
        let ids: BTreeSet<_> = clients.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), clients.len());
        let processes: BTreeSet<_> = plan.processes().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(processes.len(), plan.processes().len());
        assert!(clients.iter().filter_map(|c| c.process.as_deref()).all(|p| processes.contains(p)));

        for group in plan.groups() {
            let table = plan.service_table(group.index);
            for (wire, incoming) in &table.incoming {
                let wire = &plan.wires()[wire.0 as usize];
                assert_eq!(wire.to, PlannedEnd::Group { group: group.index, port: incoming.port.clone() });
                match (&incoming.source, wire.from.group()) {
                    (Source::Edge { client }, None) => assert_eq!(*client, edge(group.index)),
                    (Source::Group { n, f, clients }, Some(from)) => {
                        assert_eq!((*n, *f), (plan.group(from).n, plan.group(from).liars()));
                        assert_eq!(clients.len(), usize::from(*n));
                        assert!(clients.keys().all(|c| table.clients.contains(c)));
                    }
                    other => panic!("{other:?}"),
                }
            }
            for outgoing in table.outgoing.values() {
                if let Sink::Group { n, couriers, .. } = &outgoing.sink {
                    assert_eq!((couriers.len(), *n), (usize::from(group.n), group.n));
                }
            }
        }
    }
}

#[test]
fn wires_are_carried_by_the_edge_or_by_couriers() {
    let plan = plan(TWO_STAGE);
    let edge: Vec<_> = plan.edge_wires().map(|w| w.id).collect();
    assert_eq!(edge, [READINGS, WireId(1), COMMANDS]);
    let couriers = |group| plan.courier_wires(group).map(|w| w.id).collect::<Vec<_>>();
    assert_eq!((couriers(SMOOTHER), couriers(THERMOSTAT)), (vec![SMOOTHED], vec![]));
    let replica = Runs::Replica { group: THERMOSTAT, replica: ReplicaId(2) };
    assert_eq!(plan.processes()[6].runs, replica);
    assert_eq!(plan.group(THERMOSTAT).process_name(ReplicaId(2)), plan.processes()[6].name);
}

#[test]
fn identifiers_are_the_same_in_every_plan() {
    // They stand in key files and logs: changing them breaks running systems.
    let producer = ClientRole::Producer { group: 7, replica: ReplicaId(3) };
    assert_eq!(producer.client_id(2).0, 0x0100_0007_0003_0002);
    assert_eq!(ClientRole::Courier { replica: ReplicaId(3) }.client_id(2).0, 0x0200_0002_0003_0002);
    assert_eq!(ClientRole::Edge.client_id(2).0, 0x0300_0000_0000_0002);
    assert_eq!(ClientRole::Operator.client_id(2).0, 0x0400_0000_0000_0002);
    let id = plan(TWO_STAGE).group(THERMOSTAT).id;
    assert_eq!(format!("{id:?}"), "gc8a39bbe");
}

#[test]
fn the_services_of_a_plan_start() {
    let mut service = service(&plan(TWO_STAGE), SMOOTHER);
    assert!(pages(&mut service).page(0).is_some());
    assert_eq!(service.broken(), None);
}
