//! The list of backward operations that travels with tensors.
//!
//! dfdx's own tape is owned by one tensor and moved, so a tensor that two consumers read can be
//! differentiated through one of them only. [`Tape`] is a cheap handle to a shared list: clones record to
//! the same list, and tapes that meet in an operation become one.
//!
//! Three kinds of handle exist:
//!
//! * *on*: made by [`Tape::new`]; records.
//! * *off*: made by [`Tape::off`], for constants, frozen parameters and inference; records nothing, and an
//!   operation on constants alone costs no memory.
//! * *fresh*: what `Default` gives. dfdx makes these inside compound operations (`retaped`), records to them
//!   and merges them with the tape of the tensor they came from. Merged into *off* they vanish, since then
//!   their tensor is a constant too.
//!
//! Operations carry a clock reading, because merging appends lists out of order.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use dfdx::prelude::{HasErr, Merge, NoneTape};

use crate::{
    backend::Backend,
    error::{OnDevice, TensorError},
};

/// Gradients under construction, by tensor.
pub(crate) type Grads<B> = dfdx::tensor::Gradients<<B as Backend>::Elem, <B as Backend>::Device>;
type DeviceError<B> = <<B as Backend>::Device as HasErr>::Err;
type Operation<B> = Box<dyn FnOnce(&mut Grads<B>) -> Result<(), TensorError>>;
type Shared<B> = Rc<RefCell<Log<B>>>;

/// A handle to a list of backward operations. See the [module](self) documentation.
pub struct Tape<B: Backend>(Kind<B>);

enum Kind<B: Backend> {
    Off,
    Fresh(Shared<B>),
    On(Shared<B>),
}

enum Log<B: Backend> {
    Open(Record<B>),
    /// This list was appended to another one.
    Moved(Shared<B>),
}

/// What a tape holds.
pub(crate) struct Record<B: Backend> {
    /// Backward operations with the time at which each was recorded.
    operations: Vec<(u64, Operation<B>)>,
    /// Names of the parameters that were read through this tape.
    pub(crate) parameters: BTreeSet<String>,
}

impl<B: Backend> Record<B> {
    /// Whether nothing was recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Runs the operations in reverse, on gradients that hold the last one's.
    ///
    /// # Errors
    /// What an operation returns.
    pub(crate) fn run_backward(self, grads: &mut Grads<B>) -> Result<(), TensorError> {
        let mut operations = self.operations;
        operations.sort_by_key(|(time, _)| *time);
        operations.into_iter().rev().try_for_each(|(_, operation)| operation(grads))
    }
}

impl<B: Backend> Default for Record<B> {
    fn default() -> Self {
        Self { operations: Vec::new(), parameters: BTreeSet::new() }
    }
}

/// Orders operations of tapes that merge later. Only the order within one backward pass matters, so that
/// other threads share the clock does not change any result.
fn now() -> u64 {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    CLOCK.fetch_add(1, Ordering::Relaxed)
}

impl<B: Backend> Tape<B> {
    /// An empty tape that records.
    pub fn new() -> Self {
        Self(Kind::On(empty()))
    }

    /// A tape that records nothing.
    pub fn off() -> Self {
        Self(Kind::Off)
    }

    /// Whether operations on a tensor with this tape are recorded.
    pub fn is_on(&self) -> bool {
        !matches!(self.0, Kind::Off)
    }

    /// Notes that the parameter `name` was read, so that `backward` looks for its gradient.
    pub(crate) fn note_parameter(&self, name: &str) {
        if let Kind::On(log) | Kind::Fresh(log) = &self.0 {
            with_record(log, |record| record.parameters.insert(name.to_owned()));
        }
    }

    /// Records a backward operation; without effect on a tape that is off.
    pub(crate) fn push(
        &mut self,
        operation: impl FnOnce(&mut Grads<B>) -> Result<(), TensorError> + 'static,
    ) {
        if let Kind::On(log) | Kind::Fresh(log) = &self.0 {
            with_record(log, |record| record.operations.push((now(), Box::new(operation))));
        }
    }

    /// Takes everything recorded so far out of the tape; `None` for a tape that is off.
    pub(crate) fn take(&self) -> Option<Record<B>> {
        match &self.0 {
            Kind::Off => None,
            Kind::Fresh(log) | Kind::On(log) => Some(with_record(log, std::mem::take)),
        }
    }
}

impl<B: Backend> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Kind::Off => Kind::Off,
            Kind::Fresh(log) => Kind::Fresh(log.clone()),
            Kind::On(log) => Kind::On(log.clone()),
        })
    }
}

/// A fresh tape, as dfdx makes them inside compound operations; start a recording with [`Tape::new`].
impl<B: Backend> Default for Tape<B> {
    fn default() -> Self {
        Self(Kind::Fresh(empty()))
    }
}

impl<B: Backend> std::fmt::Debug for Tape<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.0 {
            Kind::Off => "off",
            Kind::Fresh(_) => "fresh",
            Kind::On(_) => "on",
        };
        f.debug_tuple("Tape").field(&kind).finish()
    }
}

impl<B: Backend> Merge<NoneTape> for Tape<B> {
    fn merge(self, _: NoneTape) -> Self {
        self
    }
}

impl<B: Backend> Merge<Tape<B>> for Tape<B> {
    fn merge(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Kind::Off, Kind::Off | Kind::Fresh(_)) => Kind::Off,
            (Kind::Off, on @ Kind::On(_)) => on,
            (kept, Kind::Off) => kept,
            (Kind::Fresh(into), Kind::Fresh(from)) => Kind::Fresh(join(into, from)),
            (Kind::On(into), Kind::On(from) | Kind::Fresh(from)) | (Kind::Fresh(from), Kind::On(into)) => {
                Kind::On(join(into, from))
            }
        })
    }
}

impl<B: Backend> dfdx::tensor::Tape<B::Elem, B::Device> for Tape<B> {
    const OWNS_TAPE: bool = true;

    fn add_backward_op<F>(&mut self, operation: F)
    where
        F: 'static + FnOnce(&mut Grads<B>) -> Result<(), DeviceError<B>>,
    {
        self.push(|grads| operation(grads).on_device());
    }
}

fn empty<B: Backend>() -> Shared<B> {
    Rc::new(RefCell::new(Log::Open(Record::default())))
}

/// The list that `log` has become part of.
fn root<B: Backend>(log: &Shared<B>) -> Shared<B> {
    let mut at = log.clone();
    loop {
        let next = match &*at.borrow() {
            Log::Open(_) => None,
            Log::Moved(next) => Some(next.clone()),
        };
        match next {
            Some(next) => at = next,
            None => return at,
        }
    }
}

fn with_record<B: Backend, R>(log: &Shared<B>, act: impl FnOnce(&mut Record<B>) -> R) -> R {
    let root = root(log);
    let mut log = root.borrow_mut();
    match &mut *log {
        Log::Open(record) => act(record),
        Log::Moved(_) => unreachable!("`root` follows moves to their end"),
    }
}

/// Appends `from` to `into`, and lets every handle to `from` record to `into` from now on.
fn join<B: Backend>(into: Shared<B>, from: Shared<B>) -> Shared<B> {
    let (into, from) = (root(&into), root(&from));
    if !Rc::ptr_eq(&into, &from) {
        let moved = with_record(&from, std::mem::take);
        *from.borrow_mut() = Log::Moved(into.clone());
        with_record(&into, |record| {
            record.operations.extend(moved.operations);
            record.parameters.extend(moved.parameters);
        });
    }
    into
}
