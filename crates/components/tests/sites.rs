//! Systems of sites in the spec file: what may be written, and what follows from it.

use althing_components::spec::sites::MAX_SITES;
use althing_components::spec::{ReplicationProtocol, SiteService, SiteSystem, Spec, Updates};
use althing_components::{Application, SitePlan};
use althing_replica::Durability;
use althing_types::{FaultModel, ReplicaId, SiteId};
use proptest::prelude::*;
use std::fmt::Write;
use std::time::Duration;

const THREE: &str = "name: a\nwide: { protocol: paxos }\nsites:\n  x: { local: paxos, f: 1 }\n  \
                     y: { local: pbft, f: 1 }\n  z: { local: paxos, f: 2, servers: 6 }\n";

fn system(spec: &str) -> SiteSystem {
    match Spec::parse(spec) {
        Ok(Spec::Sites(system)) => system,
        other => panic!("no system of sites: {other:?}"),
    }
}

fn code(spec: &str) -> &'static str {
    Spec::parse(spec).unwrap_err().all()[0].code()
}

#[test]
fn what_is_left_out_has_a_default() {
    let system = system(THREE);
    assert_eq!((system.name(), system.service()), ("a", SiteService::Kv));
    assert_eq!((system.updates(), system.durability()), (Updates::Origin, Durability::Sync));
    assert!(!system.links().is_imposed() && system.links().uplink_bps().is_none());
    assert_eq!((system.quorums().n(), system.quorums().f()), (3, 1));
    let sizes: Vec<_> = system.sites().iter().map(|site| (site.quorums().n(), site.quorums().f())).collect();
    assert_eq!(sizes, [(3, 1), (4, 1), (6, 2)]);
    let models: Vec<_> = system.sites().iter().map(|site| site.quorums().model()).collect();
    assert_eq!(models, [FaultModel::Crash, FaultModel::Byzantine, FaultModel::Crash]);
    assert_eq!(
        system.site("z").map(|(id, site)| (id, site.server_name(ReplicaId(5)))),
        Some((SiteId(2), "z-5".into()))
    );
    assert!(system.site("w").is_none());
}

#[test]
fn everything_that_can_be_written_is_taken() {
    let system = system(&format!(
        "{THREE}service: kv\nupdates: leader\ndurability: async\nlinks: {{ delay_ms: 25, mbps: 2.5 }}\n"
    ));
    assert_eq!((system.updates(), system.durability()), (Updates::Leader, Durability::Async));
    assert_eq!(system.links().delay(), Duration::from_millis(25));
    assert_eq!(system.links().uplink_bps(), Some(2_500_000));
}

#[test]
fn each_way_of_updates_has_a_name_and_a_plan_says_whom_it_trusts() {
    let of = |wide: &str, name: &str| {
        system(&format!("{THREE}  w: {{ local: pbft, f: 1 }}\nupdates: {name}\n").replacen("paxos", wide, 1))
    };
    for way in Updates::ALL {
        assert_eq!(of("pbft", way.name()).updates(), way);
    }
    let text = |wide, name| SitePlan::of(&of(wide, name)).text();
    assert!(!text("pbft", "origin").contains("answers for"));
    let vouched = text("pbft", "vouched");
    assert!(vouched.contains("one taken over as a whole can invent updates of its own ones"), "{vouched}");
    assert!(
        text("paxos", "vouched").contains("a site answers for its clients, whose signatures it alone checks")
    );
    let unknown = Spec::parse(&format!("{THREE}updates: vouching\n")).unwrap_err().to_string();
    assert!(unknown.contains("vouching") && unknown.contains("`vouched`"), "{unknown}");
}

#[test]
fn an_application_is_told_from_a_system_of_sites() {
    let application = "name: a\ncomponents: { wide: { builtin: average } }\n";
    assert!(matches!(Spec::parse(application), Ok(Spec::Application(_))));
    assert!(Application::parse(THREE).is_err());
    assert_eq!(Spec::parse(THREE).unwrap().name(), "a");
}

#[test]
fn sites_are_bounded() {
    let many = |count: usize| {
        let mut spec = "name: a\nwide: { protocol: pbft }\nsites:\n".to_owned();
        for i in 0..count {
            writeln!(spec, "  s{i}: {{ local: pbft, f: 33 }}").unwrap();
        }
        spec
    };
    assert_eq!(SitePlan::of(&system(&many(MAX_SITES))).server_count(), 100 * MAX_SITES);
    assert_eq!(code(&many(MAX_SITES + 1)), "spec::sites_out_of_range");
}

prop_compose! {
    fn any_site()(protocol in prop::sample::select(&ReplicationProtocol::ALL[..]), f in -1i64..60,
                  servers in prop::option::of(-1i64..110)) -> (ReplicationProtocol, i64, Option<i64>) {
        (protocol, f, servers)
    }
}

proptest! {
    /// What is taken tolerates at both levels what was asked for, and what isn't could not.
    #[test]
    fn a_system_is_taken_exactly_when_each_group_tolerates_its_faults(
        wide in prop::sample::select(&ReplicationProtocol::ALL[..]),
        f in prop::option::of(-1i64..6),
        sites in prop::collection::vec(any_site(), 0..8),
    ) {
        let mut spec = format!("name: a\nwide: {{ protocol: {wide}");
        if let Some(f) = f {
            write!(spec, ", f: {f}").unwrap();
        }
        spec.push_str(" }\nsites:");
        if sites.is_empty() {
            spec.push_str(" {}");
        }
        for (i, (protocol, f, servers)) in sites.iter().enumerate() {
            write!(spec, "\n  s{i}: {{ local: {protocol}, f: {f}").unwrap();
            if let Some(servers) = servers {
                write!(spec, ", servers: {servers}").unwrap();
            }
            spec.push_str(" }");
        }
        let times = |protocol| if protocol == ReplicationProtocol::Pbft { 3 } else { 2 };
        let holds = |protocol, n: i64, f: i64| f >= 1 && n <= 100 && n > times(protocol) * f;
        let count = i64::try_from(sites.len()).unwrap();
        let is_good = holds(wide, count, f.unwrap_or(1)) && sites.iter().all(|(protocol, f, servers)| {
            holds(*protocol, servers.unwrap_or(times(*protocol) * f + 1), *f)
        });
        match Spec::parse(&spec) {
            Ok(Spec::Sites(system)) => {
                prop_assert!(is_good, "{spec}");
                let most = (count - 1) / times(wide);
                prop_assert_eq!(i64::try_from(system.quorums().f()).unwrap(), f.unwrap_or(most));
                let plan = SitePlan::of(&system);
                prop_assert_eq!(plan.sites().len(), sites.len());
                prop_assert!(plan.text().lines().count() > sites.len());
            }
            Ok(Spec::Application(_)) => prop_assert!(false, "an application: {spec}"),
            Err(problems) => prop_assert!(!is_good, "{problems}\n{spec}"),
        }
    }
}
