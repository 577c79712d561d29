//! [`Pace`]: what rows took on this machine, for whoever decides later what is worth keeping ([`Speed`](crate::speed::Speed)).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    device::Need,
    exec::{RunContext, Store},
};

/// Times shorter than this say little about a machine.
const MEASURED: Duration = Duration::from_secs(1);

/// How fast the rows of a node are computed and read; the cache hears of it in the end.
pub struct Pace {
    store: Store,
    on: String,
    /// For one record, if they are known.
    macs: Option<u64>,
    rows: u64,
    computing: Duration,
    /// Bytes, and nanoseconds.
    read: [AtomicU64; 2],
}

impl Pace {
    /// Nothing is measured yet; `macs` are those of one record, if they are known.
    pub fn new(cx: &RunContext<'_>, need: Need, macs: Option<u64>) -> Self {
        let (rows, computing, read) = (0, Duration::ZERO, Default::default());
        Self { store: cx.store.clone(), on: cx.compute.speed_of(need), macs, rows, computing, read }
    }

    /// So many rows took so long to compute.
    pub fn computed(&mut self, rows: usize, time: Duration) {
        self.rows += rows as u64;
        self.computing += time;
    }

    /// So many bytes took so long to read.
    pub fn read(&self, bytes: usize, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for (count, more) in self.read.iter().zip([bytes as u64, nanoseconds]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        let [bytes, nanoseconds] = self.read.each_ref().map(|count| count.load(Ordering::Relaxed));
        let reading = Duration::from_nanos(nanoseconds);
        let rate =
            |amount: u64, time: Duration| (time >= MEASURED).then(|| amount as f64 / time.as_secs_f64());
        let macs = self.macs.and_then(|macs| rate(macs.saturating_mul(self.rows), self.computing));
        if let Err(error) = self.store.note_speed(&self.on, macs, rate(bytes, reading)) {
            tracing::debug!(%error, "how fast this machine is could not be noted");
        }
    }
}
