//! Tests of the crate from outside: one binary, a file per question.

#![expect(clippy::unwrap_used, reason = "a failed test is a panic")]

/// Do bits depend on threads or on the batch?
mod determinism;
/// Are frozen towers in bf16 right?
mod frozen;
/// Are gradients right, and fused operations the same as composed ones?
mod gradients;
/// Does a processor that keeps weights compute the same?
mod inference;
/// Is LoRA nothing when new, learnt rightly, and the same when merged?
mod lora;
/// Are rows that nobody reads left out without a trace?
mod padding;
/// Do parameters start, load and save as they should?
mod parameters;
/// Do modules give what the official code gives?
mod parity;
/// What the tests share.
mod support;
/// Are whole towers right, and checkpointed ones the same?
mod towers;
/// Do training steps do what their formulas say?
mod training;
