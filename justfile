# Short names for what one does daily. `just` lists them; `cargo install just` brings it. Every
# recipe is a plain command, so nothing here is needed to work on Althing.


_default:
    @just --list --unsorted

# A whole small system on this machine, with faults injected live
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests, or those that ARGS name
test *ARGS:
    cargo test --workspace {{ARGS}}

# Format everything
fmt:
    cargo fmt --all

# Clippy, warnings are errors
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# What CI runs, or only the SECTIONS named
ci *SECTIONS:
    bash .ci/run {{SECTIONS}}

# The simulator: `just sim --protocol pbft --seeds 500`
sim *ARGS:
    cargo run --release -- sim {{ARGS}}

# The wide-area experiments, as figures: `just wan --figure 8`
wan *ARGS:
    cargo run --release -- wan --out wan {{ARGS}}

# 200 times SIGKILL to random replicas, all included, under load; then what clients saw is judged
torture *ARGS:
    cargo test --release -p althing --test end_to_end -- --ignored --nocapture --test-threads 1 torture::two_hundred {{ARGS}}

# Ten minutes with another faulty replica each second; memory has to stay what it was
soak *ARGS:
    cargo test --release -p althing --test end_to_end -- --ignored --nocapture --test-threads 1 soak::ten_minutes {{ARGS}}

# A hundred random changes of a group of real processes, while one lies and another one is killed now and then
reconfigurations *ARGS:
    cargo test --release -p althing --test end_to_end -- --ignored --nocapture --test-threads 1 reconfigurations::a_hundred {{ARGS}}

# One fuzz target (or `all`) for SECONDS each; without a name the list of them
fuzz TARGET="" SECONDS="600":
    fuzz/run "{{TARGET}}" {{SECONDS}}

# Load with latency figures
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# What floods by a client, a stranger or a replica cost clients that behave
floods *ARGS:
    cargo run --release -- bench --clients 64 --attack garbage,bad-macs,bad-signatures,requests,large-requests,handshakes,replica-garbage,replica-signatures,replica-repeats {{ARGS}}

# Measures everything and writes docs/src/benchmarks.md: `just benchmarks --quick` for a short run
benchmarks *ARGS:
    cargo run --release -- bench --suite docs/src {{ARGS}}

# Where the replicas of a group under load spend their time: needs perf, and `cargo install inferno`
flamegraph OUT="flame.svg" *ARGS:
    cargo build --release -p althing
    docs/flamegraph {{OUT}} {{ARGS}}

# The book and the API documentation
docs:
    mdbook build docs
    cargo doc --workspace --no-deps

# Licences, bans, sources and, where the database can be reached, advisories
deny:
    cargo deny check
