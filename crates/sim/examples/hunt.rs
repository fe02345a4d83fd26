//! Looks for the first seed in which an oracle catches a planted bug: `hunt BUG|all SEEDS`.

use althing_sim::Planted;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(name), Some(seeds)) = (args.first(), args.get(1).and_then(|text| text.parse().ok())) else {
        eprintln!("usage: hunt BUG|all SEEDS");
        std::process::exit(2);
    };
    let named: Vec<_> =
        Planted::ALL.into_iter().filter(|bug| name == "all" || bug.to_string() == *name).collect();
    if named.is_empty() {
        eprintln!("there is no bug of the name {name}");
        std::process::exit(2);
    }
    let mut is_missed = false;
    for bug in named {
        match bug.hunt(seeds).and_then(|report| Some((report.config.seed, report.failure?))) {
            Some((seed, failure)) => println!("{bug}: seed {seed}: {}: {}", failure.oracle, failure.message),
            None => {
                is_missed = true;
                println!("{bug}: not caught in {seeds} seeds");
            }
        }
    }
    std::process::exit(i32::from(is_missed));
}
