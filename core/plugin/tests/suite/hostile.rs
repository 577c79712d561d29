//! Everything that a plugin could do wrong, from endless loops to lies: each ends in a message, and the host goes on.

use heddle_plugin::{Answer, CompileLimits, Isolation, LoadOptions, answer};

use crate::wat::{
    Guest, HOST, RESULT, ZEROS, answer, aot, batch, filter, host, open, settings, with_interface,
};

/// What becomes of a file: loaded, opened, called on a batch.
fn fate_of(bytes: &[u8], options: LoadOptions) -> Result<Answer<Vec<u8>>, String> {
    let plugin = HOST.load("guest.wasm", bytes, options).map_err(|error| error.to_string())?;
    let session = plugin.open(settings()).map_err(|error| error.to_string())?;
    filter(&session, &batch(0, &[Some("a"), Some("b")])).map_err(|error| error.to_string())
}

/// The message of a bad plugin; a good one runs beside it as if nothing had been.
fn message(bytes: &[u8]) -> String {
    let message = fate_of(bytes, LoadOptions::default()).unwrap_err();
    assert_eq!(fate_of(&Guest::default().bytes(), LoadOptions::default()).unwrap().value, [0, 0]);
    assert!(message.chars().all(|c| !c.is_control()), "{message:?}");
    message
}

fn apply(body: &str) -> Vec<u8> {
    Guest { apply: body.into(), ..Guest::default() }.bytes()
}

fn top(declarations: &str) -> Vec<u8> {
    Guest { top: declarations.into(), ..Guest::default() }.bytes()
}

/// A component that exports the interface's names, and whatever else the text says.
fn component(text: &str, version: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component {text} (instance $i)
          (export "heddle:plugin/filter@{version}" (instance $i))
          (export "heddle:plugin/lifecycle@{version}" (instance $i)))"#
    ))
    .unwrap()
}

macro_rules! cases {
    ($($name:ident: $bytes:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(message(&$bytes));
        })*
    };
}

cases! {
    case_01_an_endless_loop: apply("(loop $l (br $l)) (unreachable)");
    case_02_a_loop_at_the_start: top("(func $s (loop $l (br $l))) (start $s)");
    case_03_recursion_without_end:
        Guest { top: "(func $r (result i32) (call $r))".into(), apply: "(call $r)".into(), ..Guest::default() }.bytes();
    case_04_memory_that_grows_for_ever: apply("(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (unreachable)");
    case_04_memory_that_is_needed:
        apply("(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (unreachable))) (unreachable)");
    case_05_a_declared_memory_of_4_gib: Guest { memory: "65536".into(), ..Guest::default() }.bytes();
    case_07_a_table_of_100_million: top("(table 100000000 funcref)");
    case_08_many_tables: top(&"(table 20000 funcref)".repeat(60));
    case_10_memory_fill_in_a_loop:
        apply("(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br $l)) (unreachable)");
    case_11_unreachable: apply("(unreachable)");
    case_12_division_by_zero: apply("(i32.div_u (i32.const 1) (i32.const 0))");
    case_13_a_result_outside_of_memory: apply("(i32.const 0x7ffffff0)");
    case_14_a_list_of_2_to_the_31: apply(&answer(ZEROS, "(i32.const 0x80000000)"));
    case_15_an_honest_answer_that_is_too_long:
        Guest { memory: "64".into(), apply: answer(0, "(i32.const 0x200000)"), ..Guest::default() }.bytes();
    case_17_a_log_line_outside_of_memory:
        apply("(call $log (i32.const 0) (i32.const 0x7fffff00) (i32.const 64)) (unreachable)");
    case_18_a_log_line_that_is_not_utf8: Guest {
        top: r#"(data (i32.const 50000) "\ff\fe")"#.into(),
        apply: "(call $log (i32.const 0) (i32.const 50000) (i32.const 2)) (unreachable)".into(),
        ..Guest::default()
    }.bytes();
    case_19_one_function_of_4_mb: top(&format!("(func {})", "i32.const 1 drop ".repeat(1_400_000)));
    case_20_200_thousand_functions: top(&"(func)".repeat(200_000));
    case_21_a_br_table_of_2_million: top(&format!("(func block i32.const 0 br_table {} end)", "0 ".repeat(2_000_000)));
    case_22_100_thousand_nested_blocks: top(&format!("(func {}{})", "block ".repeat(100_000), "end ".repeat(100_000)));
    case_23_49_thousand_locals: top(&format!("(func (local {}))", "v128 ".repeat(49_000)));
    case_24_shared_memory: Guest { memory: "1 2 shared".into(), ..Guest::default() }.bytes();
    case_25_wasi: component(r#"(import "wasi:clocks/wall-clock@0.2.0" (instance))"#, "0.1.0");
    case_25_an_unknown_import: component(r#"(import "acme:host/files@1.0.0" (instance))"#, "0.1.0");
    case_26_garbage: Vec::from("\x7fELF and so on");
    case_26_nothing: Vec::new();
    case_26_half_a_file: { let bytes = Guest::default().bytes(); bytes[..bytes.len() / 2].to_vec() };
    case_26_text: Guest::default().text().into_bytes();
    case_26_a_module_without_interface: wat::parse_str("(module)").unwrap();
    case_27_nested_components: wat::parse_str(format!("{}{}", "(component ".repeat(40), ")".repeat(40))).unwrap();
    case_28_too_few_verdicts: apply(&answer(ZEROS, "(i32.const 1)"));
    case_28_a_verdict_without_reason:
        apply(&format!("(i32.store8 (i32.const {}) (i32.const 9)) {}", ZEROS + 1, answer(ZEROS, "(local.get $rows)")));
    case_30_realloc_outside_of_memory: Guest { realloc: "(i32.const 0x7ffffff8)".into(), ..Guest::default() }.bytes();
    case_31_a_trap_that_comes_back: apply("(if (i32.eq (local.get $rows) (i32.const 2)) (then (unreachable))) (unreachable)");
    case_33_a_name_with_escapes: described(|d| d.name = "a\x1b[2Jb".into());
    case_33_a_reason_that_is_no_word: described(|d| d.reasons = vec!["Too Short\n".into()]);
    case_33_a_reason_twice: described(|d| d.reasons = vec!["bad".into(), "bad".into()]);
    case_33_a_schema_that_is_none: described(|d| d.schema = r#"{"type": 7}"#.into());
    case_33_a_schema_from_elsewhere: described(|d| d.schema = r#"{"$ref": "http://127.0.0.1:9/x.json"}"#.into());
    case_33_a_column_that_records_lack: described(|d| d.reads = vec![("nothing", 1, false, false)]);
    case_33_a_name_of_a_megabyte: Guest {
        memory: "40".into(),
        describe: "(i32.store offset=4 (i32.const 128) (i32.const 0x100000)) (i32.store (i32.const 128) (i32.const 65536))
                   (memory.fill (i32.const 65536) (i32.const 97) (i32.const 0x100000)) (i32.const 128)".into(),
        ..Guest::default()
    }.bytes();
    case_35_another_version: component("", "0.2.0");
}

fn described(change: impl FnOnce(&mut crate::wat::Description)) -> Vec<u8> {
    let mut guest = Guest::default();
    change(&mut guest.description);
    guest.bytes()
}

/// Modules that do not become components, whoever encodes them.
#[test]
fn case_06_and_09_memories_that_the_interface_does_not_have() {
    let wide = Guest { memory: "i64 100000000".into(), ..Guest::default() }.text();
    let many = format!("(module {})", "(memory 1)".repeat(1000));
    let of = |text: &str| message(&with_interface(wat::parse_str(text).unwrap(), "filter-plugin"));
    insta::assert_snapshot!(format!("{}\n{}", of(&wide), of(&many)));
}

#[test]
fn case_16_a_flood_of_log_lines_is_cut_off() {
    let flood = Guest {
        apply: format!(
            "(local $i i32) (loop $l (call $log (i32.const 1) (i32.const {ZEROS}) (i32.const 1000))
             (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 500)))) {}",
            answer(ZEROS, "(local.get $rows)")
        ),
        ..Guest::default()
    };
    let said = filter(&open(&flood).unwrap(), &batch(0, &[Some("a")])).unwrap().said;
    assert!(said.log.len() < 70, "{}", said.log.len());
    assert_eq!(said.log.len() as u64 + said.log_dropped, 500);
}

#[test]
fn case_29_offsets_that_fall_or_end_elsewhere() {
    use heddle_plugin::{Column, ColumnSpec, ColumnType, Packed, Values};
    let spec = [ColumnSpec { name: "t".into(), ty: ColumnType::Texts, many: false, nullable: false }];
    let column = |offsets: &[u32], bytes: &[u8]| {
        let values = Values::Texts(Packed { offsets: offsets.to_vec(), bytes: bytes.to_vec() });
        [Column { name: "t".into(), rows: None, validity: None, values }]
    };
    let of = |offsets: &[u32], bytes: &[u8]| {
        answer::columns(&column(offsets, bytes), &spec, 2).unwrap_err().to_string()
    };
    let messages = [
        of(&[0, 3, 2], b"ab"),
        of(&[0, 1, 9], b"ab"),
        of(&[1, 1, 2], b"ab"),
        of(&[0, 2], b"ab"),
        of(&[0, 1, 2], "é".as_bytes()),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn case_30_a_realloc_that_gives_null_harms_the_plugin_alone() {
    let guest = Guest { realloc: "(i32.const 0)".into(), ..Guest::default() };
    // What it answers is its own affair: a verdict or a failure.
    let _ = fate_of(&guest.bytes(), LoadOptions::default());
    assert_eq!(fate_of(&Guest::default().bytes(), LoadOptions::default()).unwrap().value, [0, 0]);
}

/// Traps on its 100th batch, whatever that is: a new instance takes it.
#[test]
fn case_31_a_plugin_that_wears_out_is_started_again() {
    let guest = Guest {
        top: "(global $calls (mut i32) (i32.const 0))".into(),
        apply: format!(
            "(global.set $heap (i32.const 65536)) (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.ge_u (global.get $calls) (i32.const 100)) (then (unreachable))) {}",
            answer(ZEROS, "(local.get $rows)")
        ),
        ..Guest::default()
    };
    let session = open(&guest).unwrap();
    for index in 0..250 {
        assert_eq!(filter(&session, &batch(index, &[Some("a")])).unwrap().value, [0]);
    }
}

/// Says that it has no state and counts its calls all the same: with an instance a batch it answers otherwise.
#[test]
fn case_32_state_that_is_denied_shows_when_every_batch_has_its_own_instance() {
    let guest = Guest {
        top: "(global $calls (mut i32) (i32.const 0))".into(),
        apply: format!(
            "(i32.store8 (i32.const {RESULT}) (i32.const 0)) (i32.store8 (i32.const {ZEROS}) (global.get $calls))
             (global.set $calls (i32.const 1)) {}",
            answer(ZEROS, "(local.get $rows)")
        ),
        ..Guest::default()
    };
    let of = |isolation| {
        let plugin = crate::wat::load(&guest);
        let session = plugin.open(heddle_plugin::Settings { isolation, ..settings() }).unwrap();
        (0..3)
            .map(|index| filter(&session, &batch(index, &[Some("a")])).unwrap().value[0])
            .collect::<Vec<_>>()
    };
    assert_eq!((of(Isolation::Session), of(Isolation::Batch)), (vec![0, 1, 1], vec![0, 0, 0]));
}

#[test]
fn case_34_counters_have_a_limit() {
    let guest = Guest {
        apply: format!(
            "(local $i i32) (loop $l (i32.store8 (i32.const 50000) (i32.add (i32.const 33) (i32.rem_u (local.get $i) (i32.const 90))))
               (i32.store8 (i32.const 50001) (i32.add (i32.const 33) (i32.div_u (local.get $i) (i32.const 90))))
             (call $count_up (i32.const 50000) (i32.const 2) (i64.const 1))
             (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000)))) {}",
            answer(ZEROS, "(local.get $rows)")
        ),
        ..Guest::default()
    };
    let said = filter(&open(&guest).unwrap(), &batch(0, &[Some("a")])).unwrap().said;
    assert_eq!((said.counters.len(), said.counters_dropped), (64, 5000 - 64));
}

#[test]
fn case_36_poisoned_code_is_refused_and_compiled_anew() {
    let (folder, bytes) = (aot("poisoned"), Guest::default().bytes());
    let host = host(folder.clone(), CompileLimits::default());
    host.load("guest", &bytes, LoadOptions::default()).unwrap();
    // What the scan found, and the code.
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    for file in files {
        let good = std::fs::read(&file).unwrap();
        for place in [0, 20, 48, 100, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 4;
            std::fs::write(&file, &bad).unwrap();
            host.load("guest", &bytes, LoadOptions::default()).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), good, "byte {place}");
        }
    }
    // A folder that others may write to is not used at all.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = host.load("guest", &bytes, LoadOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("is open to others (mode 777); `chmod 700` it"), "{error}");
}

/// All of these in a process of its own: what they take at their peak is bounded, however they end.
#[cfg(target_os = "linux")]
#[test]
fn the_cases_together_stay_within_their_memory() {
    /// Twice what one plugin may have, and this program with its engine.
    const MOST_KIB: u64 = 1 << 20;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["hostile::case", "--test-threads=2", "--quiet"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        // The system's own high-water mark: looking often only matters for the last moment.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    };
    assert!(ended.success());
    assert!(peak > 0 && peak < MOST_KIB, "{peak} KiB");
}

/// Two packages that need each other: reading such an interface never ends, and takes a stack with it that is not ours.
#[test]
fn an_interface_of_packages_that_need_each_other_is_refused() {
    let mut bytes = Guest::default().bytes();
    let (from, to) = (b"heddle:plugin/filter@0.1.0", b"heddle:plugin/filter@5.1.0");
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[*at..at + to.len()].copy_from_slice(to));
    let error = HOST.load("guest", &bytes, LoadOptions::default()).unwrap_err().to_string();
    insta::assert_snapshot!(error);
}

#[test]
fn a_compiler_without_time_or_memory_is_ended() {
    let limits = CompileLimits { memory: 1 << 20, ..CompileLimits::default() };
    let starved = host(aot("starved"), limits);
    let error = starved.load("guest", &Guest::default().bytes(), LoadOptions::default()).unwrap_err();
    assert!(matches!(error, heddle_plugin::LoadError::Compile(_)), "{error}");
}

#[test]
fn fuel_that_runs_out_is_named() {
    let plugin = HOST.load(
        "guest",
        &apply("(loop $l (br $l)) (unreachable)"),
        LoadOptions { fuel: true, ..LoadOptions::default() },
    );
    let mut settings = settings();
    settings.limits.fuel = Some(10_000);
    let session = plugin.unwrap().open(settings).unwrap();
    insta::assert_snapshot!(filter(&session, &batch(3, &[Some("a")])).unwrap_err());
}
