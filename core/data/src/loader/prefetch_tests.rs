use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn squares(threads: usize, depth: usize) -> Vec<Result<u64, String>> {
    Prefetch::new(3..40, PrefetchOptions { threads, depth }, |step| Ok(step * step)).collect()
}

#[test]
fn any_number_of_threads_gives_the_same_order() {
    let expected: Vec<Result<u64, String>> = (3..40).map(|step| Ok(step * step)).collect();
    for threads in [0, 1, 2, 7, 50] {
        assert_eq!(squares(threads, 2), expected);
    }
}

#[test]
fn an_empty_range_ends_at_once() {
    assert_eq!(Prefetch::new(5..5, PrefetchOptions::default(), Ok::<u64, ()>).count(), 0);
}

#[test]
fn an_error_comes_in_its_turn_and_ends_the_values() {
    for threads in [1, 3] {
        let options = PrefetchOptions { threads, depth: 1 };
        let make = |step| if step == 5 { Err("five") } else { Ok(step) };
        let found: Vec<_> = Prefetch::new(0..100, options, make).collect();
        assert_eq!(found, [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Err("five")]);
    }
}

#[test]
fn dropping_stops_the_threads_and_memory_is_bounded() {
    let made = Arc::new(AtomicU64::new(0));
    let counter = made.clone();
    let mut values = Prefetch::new(0..u64::MAX, PrefetchOptions { threads: 2, depth: 3 }, move |step| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok::<_, ()>(step)
    });
    assert_eq!((values.next(), values.next()), (Some(Ok(0)), Some(Ok(1))));
    drop(values);
    // Two taken, and per thread three waiting and one at hand.
    assert!(made.load(Ordering::SeqCst) <= 2 + 2 * 4);
}

#[test]
#[should_panic(expected = "broken maker")]
fn a_panic_comes_up_in_the_reader() {
    Prefetch::new(0..3, PrefetchOptions::default(), |_| -> Result<(), ()> { panic!("broken maker") })
        .for_each(drop);
}
