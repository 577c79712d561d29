//! Good plugins: what they see, what they answer, and that nothing but that decides.

use heddle_plugin::{Isolation, Level, LoadOptions, State, World};
use serde_json::json;

use crate::wat::{
    Guest, HOST, RESULT, ZEROS, answer, aot, batch, filter, host, load, open, settings, with_packages,
};

/// Drops a record whose text is longer than two bytes; reads the column as the interface lays it out.
fn length_filter() -> Guest {
    Guest {
        // The one column: name 0, rows option 8 (disc, ptr, len), validity option 20, values 32 (disc, payload 36:
        // offsets ptr, len, bytes ptr, len).
        apply: format!(
            "(local $offsets i32) (local $row i32) (local $out i32)
             (local.set $offsets (i32.load offset=36 (local.get $columns)))
             (local.set $out (i32.const 40000))
             (block $end (loop $next
               (br_if $end (i32.ge_u (local.get $row) (local.get $rows)))
               (i32.store8 (i32.add (local.get $out) (local.get $row)) (i32.gt_u
                 (i32.sub (i32.load offset=4 (i32.add (local.get $offsets) (i32.shl (local.get $row) (i32.const 2))))
                          (i32.load (i32.add (local.get $offsets) (i32.shl (local.get $row) (i32.const 2)))))
                 (i32.const 2)))
               (local.set $row (i32.add (local.get $row) (i32.const 1))) (br $next)))
             (global.set $heap (i32.const 65536))
             (i32.store8 (i32.const {RESULT}) (i32.const 0)) (i32.store offset=4 (i32.const {RESULT}) (local.get $out))
             (i32.store offset=8 (i32.const {RESULT}) (local.get $rows)) (i32.const {RESULT})"
        ),
        ..Guest::default()
    }
}

#[test]
fn a_filter_sees_its_column_and_answers() {
    let plugin = load(&length_filter());
    assert_eq!((plugin.world(), plugin.description().state), (World::Filter, State::None));
    assert_eq!(plugin.description().reasons[0].code, "bad");
    let session = plugin.open(settings()).unwrap();
    let texts = [Some("a"), Some("abc"), None, Some("ab"), Some("猫")];
    assert_eq!(filter(&session, &batch(0, &texts)).unwrap().value, [0, 1, 0, 0, 1]);
    // A slice does not begin where its buffers begin.
    let mut sliced = batch(1, &texts);
    sliced.columns[0].1 = sliced.columns[0].1.slice(1, 3);
    sliced.rows = 3;
    assert_eq!(filter(&session, &sliced).unwrap().value, [1, 0, 0]);
    assert_eq!(filter(&session, &batch(2, &[])).unwrap().value, [] as [u8; 0]);
}

#[test]
fn answers_are_equal_on_many_threads_and_with_an_instance_a_batch() {
    let plugin = load(&length_filter());
    let words = ["", "a", "ab", "abc", "abcd"];
    let batches: Vec<_> = (0..40)
        .map(|i| batch(i, &(0..i).map(|k| Some(words[(i * k % 5) as usize])).collect::<Vec<_>>()))
        .collect();
    let of = |isolation| {
        let session = plugin.open(heddle_plugin::Settings { isolation, ..settings() }).unwrap();
        let alone: Vec<_> = batches.iter().map(|batch| filter(&session, batch).unwrap().value).collect();
        let together: Vec<_> = std::thread::scope(|threads| {
            let calls: Vec<_> = batches
                .iter()
                .map(|batch| threads.spawn(|| filter(&session, batch).unwrap().value))
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert_eq!(alone, together);
        alone
    };
    assert_eq!(of(Isolation::Session), of(Isolation::Batch));
}

#[test]
fn logs_and_counters_come_with_the_answer() {
    let guest = Guest {
        top: r#"(data (i32.const 50000) "seen\1b[2J")"#.into(),
        apply: format!(
            "(call $log (i32.const 2) (i32.const 50000) (i32.const 8)) (call $count_up (i32.const 50000) (i32.const 4) (i64.const 5))
             (call $count_up (i32.const 50000) (i32.const 4) (i64.const 2)) {}",
            Guest::default().apply
        ),
        ..Guest::default()
    };
    let session = open(&guest).unwrap();
    for index in 0..2 {
        let said = filter(&session, &batch(index, &[Some("x")])).unwrap().said;
        assert_eq!(said.log, [(Level::Warn, "seen\\u{1b}[2J".to_owned())]);
        assert_eq!(said.counters, [("seen".to_owned(), 7)].into());
    }
}

#[test]
fn fuel_is_counted_and_the_same_every_time() {
    let plugin = HOST
        .load("guest", &length_filter().bytes(), LoadOptions { fuel: true, ..LoadOptions::default() })
        .unwrap();
    let mut settings = settings();
    settings.limits.fuel = Some(1_000_000);
    let session = plugin.open(settings).unwrap();
    let used = |index| filter(&session, &batch(index, &[Some("x"); 50])).unwrap().fuel.unwrap();
    let first = used(0);
    assert!(first > 50, "{first}");
    assert_eq!((used(1), used(2)), (first, first));
}

#[test]
fn a_config_is_held_against_the_schema() {
    let mut guest = Guest::default();
    guest.description.schema =
        json!({ "type": "object", "additionalProperties": false, "properties": { "words": { "type": "array", "items": { "type": "string" } } } })
            .to_string();
    let plugin = load(&guest);
    assert_eq!(plugin.check_config(&json!({ "words": ["a"] })), []);
    let problems = plugin.check_config(&json!({ "words": ["a", 3], "wrods": 1 }));
    insta::assert_debug_snapshot!(problems);
    assert_eq!(load(&Guest::default()).check_config(&json!({ "x": 1 })).len(), 1);
}

#[test]
fn compiled_code_is_kept_and_the_compiler_is_not_asked_again() {
    let (folder, bytes) = (aot("kept"), Guest::default().bytes());
    let one = host(folder.clone(), Default::default());
    one.load("guest", &bytes, LoadOptions::default()).unwrap();
    // What the scan found, and the code.
    let files = || std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files(), 1);
    // A host whose compiler does not exist.
    let compiler =
        heddle_plugin::CompilerCommand { program: "/nowhere/compiler".into(), arguments: Vec::new() };
    let two = heddle_plugin::Host::new(heddle_plugin::HostOptions {
        aot: folder.clone(),
        compiler,
        compile: Default::default(),
        describe: Default::default(),
    });
    two.load("guest", &bytes, LoadOptions::default()).unwrap();
    assert!(two.load("guest", &length_filter().bytes(), LoadOptions::default()).is_err());
    assert_eq!(files(), 1);
}

/// WASI as a runtime of a script language imports it, with a resource among the types.
const WASI: [&str; 3] = [
    "package wasi:clocks@0.2.9;
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
     interface monotonic-clock { now: func() -> u64; sleep: func(); }",
    "package wasi:filesystem@0.2.9;
     interface types { resource descriptor { sync: func(); } }
     interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
    "package test:guest;
     world guest {
       include heddle:plugin/filter-plugin@0.1.0;
       import wasi:clocks/wall-clock@0.2.9; import wasi:clocks/monotonic-clock@0.2.9;
       import wasi:filesystem/preopens@0.2.9;
     }",
];

/// A guest that calls WASI in `apply`.
fn wasi_guest(apply: &str) -> Vec<u8> {
    let guest = Guest {
        top: r#"
          (import "wasi:clocks/wall-clock@0.2.9" "now" (func $wall (param i32)))
          (import "wasi:clocks/monotonic-clock@0.2.9" "now" (func $now (result i64)))
          (import "wasi:clocks/monotonic-clock@0.2.9" "sleep" (func $sleep))
          (import "wasi:filesystem/preopens@0.2.9" "get-directories" (func $folders (param i32)))"#
            .into(),
        apply: apply.into(),
        ..Guest::default()
    };
    with_packages(wat::parse_str(guest.text()).unwrap(), &WASI, "guest")
}

#[test]
fn a_stubbed_wasi_has_clocks_that_stand_and_no_folders() {
    // Each answer is written over a byte that is not 0; a verdict that is not 0 would be a drop or a wrong answer.
    let guest = wasi_guest(&format!(
        "(i64.store (i32.const 40000) (i64.const -1)) (call $wall (i32.const 40000))
         (i64.store (i32.const 40016) (i64.const -1)) (call $folders (i32.const 40016))
         (i32.store8 (i32.const 40100) (i32.or
           (i32.wrap_i64 (i64.or (i64.load (i32.const 40000)) (call $now))) (i32.load offset=4 (i32.const 40016))))
         (i32.store8 (i32.const {RESULT}) (i32.const 0)) (i32.store offset=4 (i32.const {RESULT}) (i32.const 40100))
         (i32.store offset=8 (i32.const {RESULT}) (local.get $rows)) (i32.const {RESULT})"
    ));
    let plugin =
        HOST.load("wasi", &guest, LoadOptions { stub_wasi: true, ..LoadOptions::default() }).unwrap();
    assert_eq!(filter(&plugin.open(settings()).unwrap(), &batch(0, &[Some("a")])).unwrap().value, [0]);
    let refused = HOST.load("wasi", &guest, LoadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("it imports `wasi:"), "{refused}");
}

#[test]
fn the_rest_of_a_stubbed_wasi_ends_the_plugin_by_name() {
    let guest = wasi_guest("(call $sleep) (unreachable)");
    let plugin =
        HOST.load("wasi", &guest, LoadOptions { stub_wasi: true, ..LoadOptions::default() }).unwrap();
    let failure = filter(&plugin.open(settings()).unwrap(), &batch(0, &[Some("a")])).unwrap_err().to_string();
    assert!(failure.contains("wasi:clocks/monotonic-clock@0.2.9#sleep"), "{failure}");
}

#[test]
fn the_stack_is_as_deep_as_the_node_says() {
    // 10,000 calls within each other, of some ten bytes each.
    let deep = Guest {
        top: "(func $down (param i32) (result i32) (if (result i32) (local.get 0)
                (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0))))"
            .into(),
        apply: format!("(drop (call $down (i32.const 10000))) {}", answer(ZEROS, "(local.get $rows)")),
        ..Guest::default()
    };
    let fate = |stack| {
        let plugin =
            HOST.load("deep", &deep.bytes(), LoadOptions { stack, ..LoadOptions::default() }).unwrap();
        let session = plugin.open(settings()).unwrap();
        filter(&session, &batch(0, &[Some("a")])).map_err(|failure| failure.to_string())
    };
    assert_eq!(fate(1 << 20).unwrap().value, [0]);
    let told =
        "plugin `guest`, batch 0: its stack is full: calls within calls, 64 KiB of them (`limits.stack-kib`)";
    assert_eq!(fate(64 << 10).unwrap_err(), told);
}

#[test]
fn a_batch_is_prepared_once_and_its_place_does_not_count() {
    let session = load(&length_filter()).open(settings()).unwrap();
    let prepared = session.prepare(&batch(0, &[Some("a"), Some("abc")])).unwrap();
    let elsewhere = session.prepare(&batch(7, &[Some("a"), Some("abc")])).unwrap();
    let other = session.prepare(&batch(0, &[Some("a"), Some("abd")])).unwrap();
    assert_eq!((prepared.rows(), prepared.digest()), (2, elsewhere.digest()));
    assert_ne!(prepared.digest(), other.digest());
    assert_eq!(session.filter(&prepared).unwrap().value, [0, 1]);
    session.exercise(&prepared).unwrap();
    assert!(session.memory() >= 2 << 16, "{} bytes", session.memory());
    let lacking = heddle_plugin::Batch { index: 0, rows: 1, columns: Vec::new() };
    assert!(session.prepare(&lacking).is_err());
}
