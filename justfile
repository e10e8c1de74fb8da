# What a developer runs; CI runs the same recipes (.ci/run). `scripts/install-tools` installs what they need.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Show the recipes.
default:
    @just --list --unsorted

# Everything a change must pass before it is committed.
check: fmt clippy test doc layers trace package deny

# Formatting, as rustfmt has it.
fmt:
    cargo fmt --all --check

# Lints of every target and feature; a warning is an error.
clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Unit, integration and documentation tests.
test:
    cargo test --workspace --locked

# Documentation; a warning is an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked

# Edges between crates, purity of the protocol crates, the list of dependencies.
layers:
    cargo xtask layers

# Every statement of the standards has a test or a reason, and docs/conformance.md says which.
trace:
    cargo xtask trace --check

# Each publishable crate as a registry would get it, built alone.
package:
    cargo xtask package

# Licences, banned crates and sources of the whole tree.
deny:
    cargo deny --locked check bans licenses sources

# Each fuzz target for so many seconds, or only those named.
fuzz seconds="60" *targets:
    scripts/fuzz {{ seconds }} {{ targets }}

# Real clients and bad input against a release build on a free port.
real *arguments:
    tests-real/install.sh
    cargo build --release --locked --package whimbrel
    tests-real/run {{ arguments }}

# Kills the broker under load and checks what it had acknowledged, as in `just crash --rounds 50 --qos 2`.
crash *arguments:
    scripts/crash {{ arguments }}

# Whimbrel beside the brokers that are installed, as in `just bench-brokers --quick`; `--scale --write` renews the docs.
bench-brokers *arguments:
    cargo xtask bench-brokers {{ arguments }}

# Every example of the client against a release broker.
client-examples:
    scripts/client-examples

# The client beside rumqttc and paho-mqtt (C), publishing to the same brokers.
client-figures *qos:
    scripts/client-figures {{ qos }}

# Each acknowledgement leaves after the sync that covers it, from a trace of system calls.
strace-acks *arguments:
    scripts/strace-acks {{ arguments }}

# What the store costs, and mosquitto's beside it; or only the figures named.
store-figures *figures:
    scripts/store-figures {{ figures }}

# The conformance cases against Debian's mosquitto: exactly the failures that docs/conformance-tool.md explains.
conformance-mosquitto:
    cargo build --release --locked --package whimbrel
    scripts/conformance-mosquitto

# The deterministic simulator, as in `just sim --seed 7 --steps 10000`.
sim *arguments:
    cargo xtask sim {{ arguments }}

# Every planted bug over the seeds until the oracle finds it.
mutants *arguments:
    cargo xtask sim --mutants {{ arguments }}

# Instructions and allocations of fixed scenes, against benches/instructions.tsv; or only of those named.
instructions *arguments:
    cargo xtask instructions {{ arguments }}

# Criterion benches, or only those whose names contain the argument.
bench *arguments:
    cargo bench --package whimbrel-benches -- {{ arguments }}
