//! Runs an example rule natively. Lines `RULE RECORDS` come in; for each, a line goes out: nanoseconds a record for the rule on
//! rows, for building columns from rows, for the rule on columns, and how many records it keeps.

mod records;

use std::{io::BufRead, time::Instant};

use heddle_plugin_sdk::{Batch, Column, Config, Filter, Packed, Values};
use records::{Row, rows};

const BATCH: usize = 1024;

fn main() {
    let mut made: Vec<Row> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input reads");
        let (rule, count) = line.split_once(' ').expect("a rule and a number of records");
        let count = count.parse().expect("a number of records");
        if made.len() != count {
            made = rows(count);
        }
        match rule {
            "caption-length" => {
                let rule = open::<caption_length::CaptionLength>(r#"{"min_words": 5}"#);
                measure(rule, &made, |rule, text, _| rule.judge(text))
            }
            "gibberish" => {
                let rule = open::<gibberish::Gibberish>("{}");
                measure(rule, &made, |rule, text, _| rule.judge(text))
            }
            "language" => {
                let rule = open::<language::Language>("{}");
                measure(rule, &made, |rule, text, language| rule.judge(text, Some(language)))
            }
            other => panic!("no rule `{other}`"),
        }
    }
}

fn open<F: Filter>(config: &str) -> F {
    match F::open(Config::new(config), 0) {
        Ok(rule) => rule,
        Err(_) => panic!("the rule refuses {config}"),
    }
}

fn measure<F: Filter>(mut rule: F, rows: &[Row], judge: impl Fn(&F, &str, &str) -> Option<u8>) {
    let per_record = |start: Instant| start.elapsed().as_nanos() as f64 / rows.len() as f64;
    let start = Instant::now();
    // As the examples do by default: a record goes when all of its captions fail.
    let goes = |row: &Row| row.captions.iter().all(|(text, language)| judge(&rule, text, language).is_some());
    let verdicts: Vec<u8> = rows.iter().map(|row| u8::from(goes(row))).collect();
    let on_rows = per_record(start);
    let kept = verdicts.iter().filter(|verdict| **verdict == 0).count();
    let start = Instant::now();
    let batches: Vec<Batch> = rows.chunks(BATCH).map(columns).collect();
    let building = per_record(start);
    let start = Instant::now();
    let mut again = 0;
    for batch in &batches {
        let Ok(verdicts) = rule.apply(batch) else { panic!("the rule fails") };
        again += verdicts.iter().filter(|verdict| **verdict == 0).count();
    }
    let on_columns = per_record(start);
    assert_eq!(kept, again, "rows and columns are judged alike");
    println!("{on_rows} {building} {on_columns} {kept}");
}

fn columns(rows: &[Row]) -> Batch {
    let mut texts = Packed { offsets: vec![0], bytes: Vec::new() };
    let (mut ends, mut codes, mut values) = (vec![0_u32], Vec::new(), Vec::<String>::new());
    for row in rows {
        for (text, language) in &row.captions {
            texts.bytes.extend_from_slice(text.as_bytes());
            texts.offsets.push(texts.bytes.len() as u32);
            let code = values.iter().position(|known| known == language).unwrap_or_else(|| {
                values.push((*language).to_owned());
                values.len() - 1
            });
            codes.push(code as u32);
        }
        ends.push(codes.len() as u32);
    }
    let column = |name: &str, values| Column {
        name: name.to_owned(),
        rows: Some(ends.clone()),
        validity: None,
        values,
    };
    let coded = Values::Coded(heddle_plugin_sdk::bindings::heddle::plugin::types::Dict { codes, values });
    let columns = vec![column("captions", Values::Texts(texts)), column("captions.language", coded)];
    Batch { rows: rows.len() as u32, columns }
}
