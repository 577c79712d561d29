//! Records that no data set has, alike in every run: whatever columns a plugin reads, they are there.
//!
//! Captions have one to fourteen words of six languages and are tagged with them, seven in eight; pictures are those of the
//! embedded pack. A column that is known by its name has values as they occur, any other has some of its type.

use std::{io::Read, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
    UInt32Array, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use heddle_plugin::{Batch, ColumnSpec, ColumnType};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// A language's tag, what stands between its words, and some of them.
const LANGUAGES: [(&str, &str, &[&str]); 6] = [
    (
        "en",
        " ",
        &["a", "red", "apple", "on", "the", "wooden", "table", "dog's", "running", "beach", "smiling"],
    ),
    ("de", " ", &["ein", "roter", "Apfel", "auf", "dem", "Holztisch", "große", "Straße", "läuft", "Hund"]),
    ("it", " ", &["una", "mela", "rossa", "sul", "tavolo", "città", "perché", "spiaggia", "che", "ride"]),
    ("zh", "", &["红", "苹果", "在", "桌子", "上", "一只", "小狗", "海滩", "微笑", "的"]),
    ("ja", "", &["赤い", "りんご", "テーブル", "の", "上", "犬", "が", "走る", "海辺", "笑顔"]),
    ("ar", " ", &["تفاحة", "حمراء", "على", "الطاولة", "كلب", "يركض", "شاطئ", "وجه", "مبتسم"]),
];
const SOURCES: [&str; 4] = ["coco", "laion", "cc12m", "wukong"];
const MOST_WORDS: usize = 14;
const MOST_VALUES: usize = 3;
/// One value in so many is absent, where values may be.
const ABSENT: u32 = 8;

/// So many records in batches, with the columns that a plugin reads.
///
/// # Errors
/// Where the program has no pictures and the plugin wants some.
pub fn batches(reads: &[ColumnSpec], records: usize, batch: usize) -> Result<Vec<Batch>, String> {
    let wants_images = reads.iter().any(|spec| spec.name == "image");
    let mut maker =
        Maker { rng: StdRng::seed_from_u64(0), images: if wants_images { images()? } else { Vec::new() } };
    let starts = (0..records).step_by(batch);
    let one = |(index, start): (usize, usize)| maker.batch(reads, index, start, batch.min(records - start));
    Ok(starts.enumerate().map(one).collect())
}

/// The pictures of a shard of the embedded pack, as PNG files.
fn images() -> Result<Vec<Vec<u8>>, String> {
    let shard = heddle_data::emoji::find("val-0000.tar").ok_or("this program has no pictures embedded")?;
    let bytes = shard.bytes().map_err(|error| error.to_string())?;
    let mut images = Vec::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.starts_with(b"\x89PNG") {
            images.push(bytes);
        }
    }
    if images.is_empty() { Err("the embedded shard has no PNG".to_owned()) } else { Ok(images) }
}

struct Maker {
    rng: StdRng,
    images: Vec<Vec<u8>>,
}

/// The captions of a batch: how many a record has, and each with its language.
struct Captions {
    counts: Vec<usize>,
    texts: Vec<(String, &'static str)>,
}

impl Maker {
    fn batch(&mut self, reads: &[ColumnSpec], index: usize, start: usize, rows: usize) -> Batch {
        let captions = self.captions(rows);
        let columns = reads.iter().map(|spec| (spec.name.clone(), self.column(spec, start, rows, &captions)));
        Batch { index: index as u64, rows, columns: columns.collect() }
    }

    fn captions(&mut self, rows: usize) -> Captions {
        let counts: Vec<usize> = (0..rows).map(|_| self.rng.gen_range(1..=MOST_VALUES)).collect();
        let texts = (0..counts.iter().sum()).map(|_| self.caption()).collect();
        Captions { counts, texts }
    }

    fn caption(&mut self) -> (String, &'static str) {
        let (tag, between, words) = LANGUAGES[self.rng.gen_range(0..LANGUAGES.len())];
        let count = self.rng.gen_range(1..=MOST_WORDS);
        let chosen: Vec<&str> = (0..count).map(|_| words[self.rng.gen_range(0..words.len())]).collect();
        (chosen.join(between), tag)
    }

    fn column(&mut self, spec: &ColumnSpec, start: usize, rows: usize, captions: &Captions) -> ArrayRef {
        if !spec.many {
            return self.values(spec, start, rows, captions);
        }
        // What belongs to captions is in step with them.
        let counts: Vec<usize> = if spec.name.starts_with("captions") {
            captions.counts.clone()
        } else {
            (0..rows).map(|_| self.rng.gen_range(0..=MOST_VALUES)).collect()
        };
        let values = self.values(spec, start, counts.iter().sum(), captions);
        let item = Arc::new(Field::new(Field::LIST_FIELD_DEFAULT_NAME, spec.ty.arrow(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(counts), values, None))
    }

    fn values(&mut self, spec: &ColumnSpec, start: usize, count: usize, captions: &Captions) -> ArrayRef {
        let there: Vec<bool> = (0..count).map(|_| !spec.nullable || !self.rng.gen_ratio(1, ABSENT)).collect();
        let mut at = 0..count;
        let some = there.into_iter();
        macro_rules! array {
            ($array:ty, $value:expr) => {{
                let values: $array = some
                    .zip(&mut at)
                    .map(|(there, at)| {
                        let value = $value(&mut *self, at);
                        there.then_some(value)
                    })
                    .collect();
                Arc::new(values) as ArrayRef
            }};
        }
        match spec.ty.arrow() {
            DataType::Boolean => array!(BooleanArray, |maker: &mut Self, _| maker.rng.r#gen::<bool>()),
            DataType::UInt32 => array!(UInt32Array, |maker: &mut Self, _| maker.rng.gen_range(16..=2048_u32)),
            DataType::UInt64 => array!(UInt64Array, |maker: &mut Self, _| maker.rng.r#gen::<u64>()),
            DataType::Int64 => {
                array!(Int64Array, |maker: &mut Self, _| maker.rng.gen_range(-1000..=1000_i64))
            }
            DataType::Float32 => array!(Float32Array, |maker: &mut Self, _| maker.rng.r#gen::<f32>()),
            DataType::Float64 => array!(Float64Array, |maker: &mut Self, _| maker.rng.r#gen::<f64>()),
            DataType::Binary => array!(BinaryArray, |maker: &mut Self, _| maker.blob(&spec.name)),
            _ => array!(StringArray, |maker: &mut Self, at| maker.text(spec, start + at, at, captions)),
        }
    }

    fn blob(&mut self, name: &str) -> Vec<u8> {
        match self.images.choose(&mut self.rng) {
            Some(image) if name == "image" => image.clone(),
            _ => (0..64).map(|_| self.rng.r#gen()).collect(),
        }
    }

    fn text(&mut self, spec: &ColumnSpec, record: usize, at: usize, captions: &Captions) -> String {
        match (spec.name.as_str(), spec.ty) {
            ("captions", _) if spec.many => captions.texts[at].0.clone(),
            ("captions.language", _) if spec.many => captions.texts[at].1.to_owned(),
            ("key", _) => format!("{record:09}"),
            (_, ColumnType::Coded) => SOURCES[self.rng.gen_range(0..SOURCES.len())].to_owned(),
            _ => self.caption().0,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray};

    use super::*;

    fn spec(name: &str, ty: ColumnType, many: bool, nullable: bool) -> ColumnSpec {
        ColumnSpec { name: name.to_owned(), ty, many, nullable }
    }

    #[test]
    fn tags_are_in_step_with_captions_and_pictures_are_pictures() {
        let reads = [
            spec("captions", ColumnType::Texts, true, false),
            spec("captions.language", ColumnType::Coded, true, true),
            spec("image", ColumnType::Blobs, false, false),
        ];
        let batches = batches(&reads, 70, 32).expect("known columns");
        assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [32, 32, 6]);
        for batch in &batches {
            let [captions, tags, images] = [0, 1, 2].map(|at| batch.columns[at].1.clone());
            assert_eq!(captions.as_list::<i32>().offsets(), tags.as_list::<i32>().offsets());
            assert_eq!(captions.as_list::<i32>().values().null_count(), 0);
            assert!(
                images
                    .as_binary::<i32>()
                    .iter()
                    .all(|image| image.is_some_and(|image| image.starts_with(b"\x89PNG")))
            );
        }
        assert!(batches[0].columns[1].1.as_list::<i32>().values().null_count() > 0);
    }

    #[test]
    fn every_type_has_values_and_they_are_the_same_again() {
        use ColumnType::{Blobs, Bools, Coded, F32s, F64s, S64s, Texts, U32s, U64s};
        let types = [Bools, U32s, U64s, S64s, F32s, F64s, Texts, Coded, Blobs];
        let reads: Vec<ColumnSpec> = types
            .into_iter()
            .flat_map(|ty| [false, true].map(|many| spec(&format!("{ty:?}{many}"), ty, many, true)))
            .collect();
        let made = [(); 2].map(|()| batches(&reads, 20, 8).expect("known columns"));
        for (first, second) in made[0].iter().zip(&made[1]) {
            assert_eq!(first.columns, second.columns);
            for (spec, (_, column)) in reads.iter().zip(&first.columns) {
                assert_eq!((column.data_type(), column.len()), (spec.field().data_type(), first.rows));
            }
        }
    }
}
