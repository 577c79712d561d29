//! The host against plugins that are assembled here: good ones, and all that a plugin could do wrong.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../../../tests/fuzz/src/answers.rs"]
mod fuzz_answers;
mod hostile;
#[path = "../../../../tests/fuzz/src/seeds.rs"]
mod seeds;
mod wat;
mod works;

#[test]
fn seeds_of_answers() {
    seeds::replay("answers", fuzz_answers::check);
}
