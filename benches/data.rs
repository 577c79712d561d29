//! `cargo bench -p heddle --bench data`: reading data against PyTorch's webdataset with PIL, and against pyarrow.
//!
//! | name | what | peer |
//! |---|---|---|
//! | `png` | the embedded emoji (64 x 64 PNG with palettes) from tar shards: scan with digests, decode to 8-bit RGBA | `WebDataset(..).decode("pilrgb")` in a `DataLoader` with as many workers as heddle has threads |
//! | `jpeg` | 1,600 made photographs of 640 x 480 (smooth noise, quality 85), the same | the same |
//! | `parquet-rows` | 500,000 rows of text, numbers and lists as JSON values | `to_pylist` |
//! | `parquet-columns` | the same as Arrow batches of 1,024 rows | `iter_batches` |
//!
//! The peer is `benches/peers/data.py` (`PYTHON` names the interpreter); both by turns, the best of the rounds. heddle's digests have
//! no counterpart there.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::{
    fs::File,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray,
    builder::{ListBuilder, StringBuilder},
};
use heddle_data::{
    ScanOptions, Shard, Shards,
    export::TarWriter,
    image::{DecodeLimits, ImageFormat, Rgba8, decode},
    scan,
};
use heddle_parquet::{Table, TableWriter};
use rayon::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
const ROWS: usize = 500_000;

fn main() {
    heddle::memory::keep_freed_memory();
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, shards) in [("png", emoji(dir.path())), ("jpeg", photographs(dir.path()))] {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mut ours = f64::INFINITY;
            let mut count = 0;
            for _ in 0..ROUNDS {
                let start = Instant::now();
                count = pool.install(|| pictures(&shards));
                ours = ours.min(start.elapsed().as_secs_f64());
            }
            let workers = threads.to_string();
            let paths = shards.iter().map(|path| path.to_str().expect("a temporary path is text"));
            let peer = peer(&[&["decode", &workers], &paths.collect::<Vec<_>>()[..]].concat(), count);
            tell(&format!("{name}, {threads} threads"), count, ours, peer);
        }
    }
    let table = table(dir.path());
    let path = table.to_str().expect("a temporary path is text");
    let bytes = bytes::Bytes::from(std::fs::read(&table).expect("the table reads"));
    let best = |work: &dyn Fn() -> usize| {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            assert_eq!(work(), ROWS);
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    };
    let open = || Table::open(bytes.clone()).expect("it is parquet");
    let rows = best(&|| open().rows(None).expect("its columns read").filter(|row| row.is_ok()).count());
    tell("parquet-rows", ROWS, rows, peer(&["rows", path], ROWS));
    let columns = best(&|| {
        open().batches().expect("its columns read").map(|batch| batch.expect("a batch").num_rows()).sum()
    });
    tell("parquet-columns", ROWS, columns, peer(&["columns", path], ROWS));
}

fn tell(name: &str, count: usize, ours: f64, peer: Option<f64>) {
    let rate = |seconds: f64| count as f64 / seconds;
    match peer {
        Some(peer) => {
            println!("{name}: {:.0} a second against {:.0}: {:.2}", rate(ours), rate(peer), peer / ours)
        }
        None => println!("{name}: {:.0} a second; no peer here", rate(ours)),
    }
}

/// The peer's seconds; none without Python or its packages.
fn peer(arguments: &[&str], count: usize) -> Option<f64> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/peers/data.py");
    let output = Command::new(python).arg(script).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (seconds, seen) = text.trim().split_once(' ')?;
    assert_eq!(seen.parse::<usize>().ok(), Some(count), "both sides read the same");
    seconds.parse().ok()
}

/// Scans the shards and decodes every picture; how many there are.
fn pictures(paths: &[PathBuf]) -> usize {
    let scanned: Vec<(Shard, Vec<heddle_data::Record>)> = paths
        .par_iter()
        .map(|path| {
            let shard = Shard::open(path).expect("the shard opens");
            let records = scan(&shard, &ScanOptions::default()).records;
            (shard, records)
        })
        .collect();
    let shards: Shards = scanned.iter().map(|(shard, _)| shard.clone()).collect();
    let records: Vec<&heddle_data::Record> = scanned.iter().flat_map(|(_, records)| records).collect();
    let pixels = |record: &&heddle_data::Record| {
        let bytes = shards.bytes(record.image().expect("a picture")).expect("its bytes");
        decode(&bytes, &DecodeLimits::default()).expect("it decodes").len()
    };
    records.par_iter().map(pixels).filter(|pixels| *pixels > 0).count()
}

fn emoji(dir: &Path) -> Vec<PathBuf> {
    let files = heddle_data::emoji::files().iter().filter(|file| file.name.starts_with("train-"));
    files
        .map(|file| {
            let path = dir.join(file.name);
            std::fs::write(&path, file.bytes().expect("an embedded file unpacks")).expect("a file");
            path
        })
        .collect()
}

/// Four shards of pictures of smooth noise.
fn photographs(dir: &Path) -> Vec<PathBuf> {
    let shard = |number: u32| {
        let path = dir.join(format!("photo-{number:06}.tar"));
        let mut tar = TarWriter::create(&path).expect("a tar");
        for place in 0..400_u32 {
            let seed = f64::from(number * 400 + place);
            let wave = |x: u32, y: u32, phase: f64| {
                let (x, y) = (f64::from(x), f64::from(y));
                let value = (x * 0.021 + seed).sin()
                    + (y * 0.017 + phase).cos()
                    + (x * y * 0.0004 + seed * phase).sin();
                let grain = f64::from((x as u32 * 73 + y as u32 * 151 + place) % 17) - 8.0;
                (127.0 + 40.0 * value + grain) as u8
            };
            let image = Rgba8::from_fn(640, 480, |x, y| {
                [wave(x, y, 0.3), wave(x, y, 1.1), wave(x, y, 2.7), 255].into()
            });
            let mut bytes = Vec::new();
            let rgb = image::DynamicImage::from(image).into_rgb8();
            rgb.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).expect("a JPEG");
            tar.append(&format!("{number}{place:04}.jpg"), &bytes).expect("a member");
        }
        tar.finish().expect("a tar ends");
        path
    };
    (0..4).map(shard).collect()
}

fn table(dir: &Path) -> PathBuf {
    let path = dir.join("rows.parquet");
    let text = |n: usize| format!("a caption number {n} of some words, {}", n % 977);
    let mut writer = None;
    for start in (0..ROWS).step_by(10_000) {
        let range = start..start + 10_000;
        let mut tags = ListBuilder::new(StringBuilder::new());
        range.clone().for_each(|n| {
            (0..n % 4).for_each(|tag| tags.values().append_value(format!("tag{tag}")));
            tags.append(true);
        });
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(StringArray::from_iter_values(range.clone().map(|n| format!("{n:09}"))))),
            ("caption", Arc::new(StringArray::from_iter_values(range.clone().map(text)))),
            ("width", Arc::new(Int64Array::from_iter_values(range.clone().map(|n| (n % 4096) as i64)))),
            ("punsafe", Arc::new(Float64Array::from_iter_values(range.map(|n| n as f64 / ROWS as f64)))),
            ("tags", Arc::new(tags.finish())),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let writer = writer.get_or_insert_with(|| {
            TableWriter::new(File::create(&path).expect("a file"), batch.schema()).expect("a table")
        });
        writer.write(&batch).expect("rows");
    }
    writer.expect("there are rows").finish().expect("the table ends");
    path
}
