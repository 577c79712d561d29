use std::thread;

use heddle_cache::{Digest, Payload};

use crate::util::{noise, open, temp};

#[test]
fn threads_put_and_get_at_the_same_time() {
    let dir = temp();
    let cache = open(dir.path());
    // Neighbours share half of their payloads, so the same bytes are put twice at the same time.
    let payload = |thread: u64, i: u64| noise((thread * 10 + i) % 45, 1000 * (i as usize + 1));
    thread::scope(|scope| {
        for t in 0..8 {
            let cache = cache.clone();
            scope.spawn(move || {
                for i in 0..20 {
                    let bytes = payload(t, i);
                    let digest = cache.put(&bytes).expect("stored");
                    assert_eq!(*cache.get(&digest).expect("readable").expect("stored"), *bytes);
                    cache.set("trace", digest.as_bytes(), &i.to_le_bytes()).expect("set");
                }
            });
        }
    });
    drop(cache);
    let cache = open(dir.path());
    for (t, i) in (0..8).flat_map(|t| (0..20).map(move |i| (t, i))) {
        let bytes = payload(t, i);
        let digest = Digest::of(&bytes);
        assert_eq!(*cache.get(&digest).expect("readable").expect("stored"), *bytes);
        assert!(cache.value("trace", digest.as_bytes()).expect("readable").is_some());
    }
}

#[test]
fn handles_cross_threads() {
    fn shareable<T: Send + Sync + Clone + 'static>() {}
    shareable::<heddle_cache::Cache>();
    shareable::<Payload>();
}
