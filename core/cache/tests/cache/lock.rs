use std::{sync::mpsc, thread, time::Duration};

use heddle_cache::{Cache, CacheError, Wait};

use crate::util::{holder, open, temp};

#[test]
fn a_second_open_hears_who_has_the_folder() {
    let dir = temp();
    let first = Cache::open(dir.path(), &holder("run quickstart.toml"), Wait::No).expect("free");
    let error = Cache::open(dir.path(), &holder("run other.toml"), Wait::No).expect_err("held");
    assert!(matches!(&error, CacheError::Held(who) if *who == holder("run quickstart.toml")));
    assert!(error.to_string().contains("run quickstart.toml"), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn waiting_ends_when_the_last_clone_is_dropped() {
    let dir = temp();
    let first = open(dir.path());
    let clone = first.clone();
    let (sender, opened) = mpsc::channel();
    let path = dir.path().to_owned();
    let waiting = thread::spawn(move || {
        let cache = Cache::open(&path, &holder("second"), Wait::Yes).expect("free in the end");
        sender.send(()).expect("the test listens");
        cache.value("latest", b"x").expect("readable")
    });
    first.set("latest", b"x", b"1").expect("set");
    drop(first);
    assert!(opened.recv_timeout(Duration::from_millis(100)).is_err(), "opened while a clone was alive");
    drop(clone);
    assert_eq!(waiting.join().expect("no panic").as_deref(), Some(b"1".as_slice()));
}
