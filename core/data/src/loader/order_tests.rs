use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn an_epoch_is_a_permutation(n in 0usize..200, seed in any::<u64>(), epoch in 0u64..5) {
        let mut order = epoch_order(n, seed, epoch);
        prop_assert_eq!(&order, &epoch_order(n, seed, epoch));
        order.sort_unstable();
        prop_assert_eq!(order, (0..n as u32).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_of_batches_repeats_no_record(n in 1usize..100, batch in 1usize..20, seed in any::<u64>()) {
        prop_assume!(batch <= n);
        let batches = ShuffledBatches::new(n, batch, seed).unwrap();
        let steps = batches.per_epoch();
        for epoch in 0..2 {
            let taken: Vec<u32> = (epoch * steps..(epoch + 1) * steps).flat_map(|s| batches.batch(s)).collect();
            prop_assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), n / batch * batch);
        }
    }

    #[test]
    fn distinct_batches_repeat_no_group(sizes in proptest::collection::vec(1usize..4, 5..40), seed in any::<u64>()) {
        let mut next = 0;
        let groups: Vec<Vec<u32>> = sizes.iter().map(|size| {
            let group = (next..next + *size as u32).collect();
            next += *size as u32;
            group
        }).collect();
        let batches = DistinctBatches::new(groups.clone(), 5, seed).unwrap();
        for step in 0..10 {
            let taken = batches.batch(step);
            let of = |index: &u32| groups.iter().position(|group| group.contains(index)).unwrap();
            prop_assert_eq!(taken.iter().map(of).collect::<BTreeSet<_>>().len(), 5);
            prop_assert_eq!(&taken, &batches.batch(step));
        }
    }
}

#[test]
fn steps_and_seeds_differ_in_any_order_of_asking() {
    let batches = ShuffledBatches::new(100, 10, 1).unwrap();
    let (late, early) = (batches.batch(25), batches.batch(3));
    assert_eq!((batches.batch(3), batches.batch(25)), (early.clone(), late.clone()));
    assert_ne!(early, late);
    assert_ne!(early, ShuffledBatches::new(100, 10, 2).unwrap().batch(3));
}

#[test]
fn batches_that_cannot_be_filled_are_errors() {
    assert!(matches!(ShuffledBatches::new(5, 0, 0), Err(OrderError::EmptyBatch)));
    let error = DistinctBatches::new(vec![vec![0, 1], vec![], vec![2]], 3, 0).unwrap_err();
    assert_eq!(error.to_string(), "a batch of 3 cannot be drawn from 2 distinct groups");
}

#[test]
fn records_are_grouped_by_a_column() {
    let record = |cp: Option<&str>| {
        let columns = cp.map(|cp| ("cp".to_owned(), cp.into())).into_iter().collect();
        Record::new(format!("{cp:?}"), [0; 32], Default::default(), columns)
    };
    let records = [record(Some("a")), record(Some("b")), record(Some("a"))];
    assert_eq!(DistinctBatches::by_column(records.map(Ok), "cp", 2, 0).unwrap().groups(), 2);
    let error = DistinctBatches::by_column([Ok(record(None))], "cp", 1, 0).unwrap_err();
    assert!(matches!(error, OrderError::NoColumn { .. }));
}
