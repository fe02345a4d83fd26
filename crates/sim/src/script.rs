//! What goes wrong when, for each family.

use crate::config::Family;
use crate::dice::{Dice, nanos};
use crate::fault::{DiskFailure, Fault};
use crate::network::{Layout, Weather};
use crate::plan::Plan;
use std::time::Duration;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The network's behaviour at the start.
pub(crate) fn weather(family: Family, dice: &mut Dice) -> Weather {
    let fair = Weather::fair();
    match family {
        Family::Delay => Weather {
            most_delay: ms(dice.between(5, 60)),
            spikes: dice.between(5, 60),
            spike_delay: ms(dice.between(100, 900)),
            ..fair
        },
        Family::Loss => Weather { loss: dice.between(10, 300), ..fair },
        Family::Duplicate => {
            Weather { duplication: dice.between(50, 500), is_fifo: dice.chance(500), ..fair }
        }
        Family::Reorder => Weather { is_fifo: false, most_delay: ms(dice.between(10, 80)), ..fair },
        Family::Forge => Weather { corruption: dice.between(0, 60), ..fair },
        Family::Chaos => stormy(dice),
        // How long what was stolen is good for follows from how long announcements take.
        Family::KeyTheft | Family::MobileAdversary => fair,
        family if family.least_share().is_some() => fair,
        // Half of the runs of the other families have a network that is not perfect either.
        family if family != Family::Calm && dice.chance(500) => {
            Weather { loss: dice.below(40), is_fifo: dice.chance(500), ..fair }
        }
        _ => fair,
    }
}

fn stormy(dice: &mut Dice) -> Weather {
    Weather {
        least_delay: Duration::from_micros(200),
        most_delay: ms(dice.between(1, 30)),
        is_fifo: dice.chance(500),
        loss: dice.below(150),
        duplication: dice.below(100),
        corruption: dice.below(10),
        spikes: dice.below(20),
        spike_delay: ms(dice.between(50, 500)),
    }
}

/// The faults of the run, in order of time.
pub(crate) fn script(family: Family, plan: &Plan, dice: &mut Dice) -> Vec<(u64, Fault)> {
    let mut script = Vec::new();
    let mut add = |every: (u64, u64), dice: &mut Dice, fault: &mut dyn FnMut(&mut Dice) -> Fault| {
        let mut at = nanos(ms(dice.between(1, every.1)));
        while at < plan.heal_at {
            script.push((at, fault(dice)));
            at += nanos(ms(dice.between(every.0, every.1)));
        }
    };
    match family {
        Family::Calm | Family::Duplicate | Family::Reorder => {}
        Family::Delay | Family::Loss => {
            add((200, 600), dice, &mut |dice| Fault::Weather(weather(family, dice)));
        }
        Family::Partition => add((60, 500), dice, &mut |dice| Fault::Layout(layout(dice))),
        Family::CrashDisk => {
            add((80, 400), dice, &mut |dice| Fault::Crash {
                loses_disk: false,
                down: ms(dice.between(5, 500)),
            });
            if dice.chance(600) {
                add((300, 1000), dice, &mut |dice| Fault::PowerFailure { down: ms(dice.between(5, 200)) });
            }
        }
        Family::DiskFaults => {
            add((60, 300), dice, &mut |dice| Fault::Disk {
                failure: dice.pick(&[DiskFailure::Sync, DiskFailure::Full, DiskFailure::BitFlip]),
                down: ms(dice.between(5, 400)),
            });
            add((150, 600), dice, &mut |dice| Fault::Crash {
                loses_disk: false,
                down: ms(dice.between(5, 300)),
            });
            if dice.chance(500) {
                add((300, 1000), dice, &mut |dice| Fault::PowerFailure { down: ms(dice.between(5, 200)) });
            }
        }
        Family::AsyncLog => {
            add((80, 400), dice, &mut |dice| Fault::Crash {
                loses_disk: false,
                down: ms(dice.between(5, 400)),
            });
            add((200, 800), dice, &mut |dice| Fault::PowerFailure { down: ms(dice.between(5, 200)) });
            add((300, 900), dice, &mut |dice| Fault::Disk {
                failure: dice.pick(&[DiskFailure::Sync, DiskFailure::Full]),
                down: ms(dice.between(5, 400)),
            });
        }
        Family::CrashEmpty => {
            add((80, 500), dice, &mut |dice| Fault::Crash {
                loses_disk: true,
                down: ms(dice.between(5, 400)),
            });
            if dice.chance(300) {
                add((200, 800), dice, &mut |dice| Fault::Crash {
                    loses_disk: false,
                    down: ms(dice.between(5, 300)),
                });
            }
        }
        Family::Twins => add((40, 300), dice, &mut |dice| Fault::Layout(twin_layout(dice))),
        Family::Reconfigure => changing(&mut add, dice),
        Family::RecoveringMembers => {
            add((40, 250), dice, &mut |_| Fault::Recover);
            changing(&mut add, dice);
        }
        Family::Chaos => chaos(&mut add, plan, dice),
        Family::LyingState => {
            // Somebody has to fall behind and catch up.
            add((400, 900), dice, &mut |_| Fault::Layout(Layout::WithoutOne));
            add((150, 400), dice, &mut |dice| Fault::Crash {
                loses_disk: dice.chance(500),
                down: ms(dice.between(100, 600)),
            });
        }
        Family::PlannedStops => {
            add((60, 400), dice, &mut |_| Fault::StepDown);
            add((100, 500), dice, &mut |dice| Fault::PlannedStop { down: ms(dice.between(5, 300)) });
        }
        Family::ProactiveRecovery => {
            add((80, 300), dice, &mut |_| Fault::Recover);
            if dice.chance(500) {
                add((100, 400), dice, &mut nudge);
            }
        }
        Family::MobileAdversary => {
            add((30, 120), dice, &mut |_| Fault::Seize);
            add((5, 40), dice, &mut |_| Fault::Impersonation);
        }
        Family::KeyTheft => {
            add((20, 60), dice, &mut |_| Fault::Theft);
            add((5, 40), dice, &mut |_| Fault::Impersonation);
        }
        Family::BadClient | Family::SlowPrimary | Family::UnfairPrimary | Family::InconsistentMacs => {}
        Family::LyingViewChange => add((150, 500), dice, &mut nudge),
        _ => {
            // Without a reason to change the view, some faults would never be told apart.
            if dice.chance(500) {
                add((150, 700), dice, &mut nudge);
            }
        }
    }
    if matches!(family, Family::Replay | Family::Chaos) {
        add((1, 15), dice, &mut |_| Fault::Replay);
    }
    let has_one_trick = family == Family::InconsistentMacs;
    for rogue in 0..plan.rogues {
        let client = plan.clients + rogue;
        add((5, 60), dice, &mut |_| Fault::RogueTurn { client, has_one_trick });
    }
    script.push((plan.heal_at, Fault::Heal));
    script.sort_by_key(|(at, _)| *at);
    script
}

type Add<'a> = dyn FnMut((u64, u64), &mut Dice, &mut dyn FnMut(&mut Dice) -> Fault) + 'a;

fn chaos(add: &mut Add<'_>, plan: &Plan, dice: &mut Dice) {
    if plan.twins.is_empty() {
        add((100, 700), dice, &mut |dice| Fault::Layout(layout(dice)));
    } else {
        add((40, 300), dice, &mut |dice| Fault::Layout(twin_layout(dice)));
    }
    add((200, 600), dice, &mut |dice| Fault::Weather(stormy(dice)));
    add((150, 800), dice, &mut |dice| Fault::Crash {
        loses_disk: dice.chance(400),
        down: ms(dice.between(5, 400)),
    });
    if dice.chance(200) {
        add((400, 1500), dice, &mut |dice| Fault::PowerFailure { down: ms(dice.between(5, 200)) });
    }
}

/// What goes wrong while the members change: any of it, or not much.
fn changing(add: &mut Add<'_>, dice: &mut Dice) {
    if dice.chance(500) {
        add((150, 900), dice, &mut |dice| {
            Fault::Layout(if dice.chance(500) { Layout::Whole } else { layout(dice) })
        });
    }
    if dice.chance(300) {
        add((300, 900), dice, &mut |dice| Fault::Weather(stormy(dice)));
    }
    if dice.chance(600) {
        add((100, 700), dice, &mut |dice| Fault::Crash {
            loses_disk: dice.chance(300),
            down: ms(dice.between(5, 600)),
        });
    }
    if dice.chance(300) {
        add((400, 1500), dice, &mut |dice| Fault::PowerFailure { down: ms(dice.between(5, 200)) });
    }
}

fn layout(dice: &mut Dice) -> Layout {
    match dice.below(7) {
        0 => Layout::Groups(2),
        1 => Layout::Groups(3),
        2 => Layout::GroupsWithClients(2),
        3 => Layout::OneWay(usize::try_from(dice.between(1, 8)).expect("small")),
        4 => Layout::WithoutPrimary,
        5 => Layout::WithoutOne,
        _ => Layout::Whole,
    }
}

fn twin_layout(dice: &mut Dice) -> Layout {
    match dice.below(6) {
        0 | 1 => Layout::Groups(2),
        2 => Layout::GroupsWithClients(2),
        3 => Layout::Groups(3),
        4 => Layout::WithoutPrimary,
        _ => Layout::Whole,
    }
}

/// Gives the replicas a reason to change the view, or ends it.
fn nudge(dice: &mut Dice) -> Fault {
    Fault::Layout(if dice.chance(450) { Layout::WithoutPrimary } else { Layout::Whole })
}
