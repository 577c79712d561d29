# One line a recipe; `just` lists them.

default:
    @just --list

# everything that a change has to pass
ci:
    bash .ci/run

# the tests
test:
    cargo test --workspace

# format and lint
lint:
    cargo fmt --all && cargo clippy --workspace --all-targets -- -D warnings

# the main job
quickstart *args:
    cargo run --release -- run experiments/quickstart.toml {{args}}

# look at changed snapshots
review:
    cargo insta review

# the book of the crates
doc:
    cargo doc --workspace --no-deps --open

# ratios against a named peer or a limit
bench name:
    cargo bench -p heddle --bench {{name}}

# bytes that nobody meant, so many seconds for each target
fuzz seconds="60":
    scripts/fuzz.sh {{seconds}}
