//! What a plugin may hand over: any bytes as its file if they begin like one, else any answer that they spell out.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use arrow_array::{Array, ArrayRef, cast::AsArray};
use arrow_schema::DataType;
use heddle_plugin::{
    Column, ColumnSpec, ColumnType, Description, Dict, DropReason, Form, Keys, Packed, State, Values, World,
    answer, form, printable, scan,
};

/// Whether the file or the answer was accepted.
pub fn check(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"\0asm") {
        return file(bytes, false) | file(bytes, true);
    }
    match Answer::arbitrary_take_rest(Unstructured::new(bytes)) {
        Ok(answer) => answer.check(),
        Err(_) => false,
    }
}

/// What the host does with a file before a child process sees it.
fn file(bytes: &[u8], stub_wasi: bool) -> bool {
    let scanned = match form(bytes) {
        // What reads its interface trusts it, and is kept in a child process.
        Ok(Form::Module) => return true,
        Ok(Form::Component) => scan(bytes, stub_wasi),
        Err(error) => Err(error),
    };
    match scanned {
        Ok(scanned) => {
            let world = scanned.check(stub_wasi).expect("what the scan found is allowed");
            assert!(scanned.exports.iter().any(|export| export.contains(world.name())));
            assert!(stub_wasi || scanned.imports.iter().all(|import| !import.starts_with("wasi:")));
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
            false
        }
    }
}

/// An answer, with what it is held against. What is left out is made to fit, so that some are accepted.
#[derive(Debug, Arbitrary)]
enum Answer {
    Verdicts { codes: Vec<u8>, rows: u8, reasons: u8 },
    Scores { scores: Vec<f32>, rows: u8 },
    Keys { rows: Offsets, hashes: Vec<u64>, count: Option<u8> },
    Columns { columns: Vec<Given>, specs: Option<Vec<Spec>>, rows: Option<u8> },
    Description { fields: Box<Described>, world: u8 },
    Text(String),
}

#[derive(Debug, Arbitrary)]
struct Given {
    name: Name,
    rows: Option<Offsets>,
    validity: Option<Vec<u8>>,
    values: GivenValues,
    /// Validity and bytes get the length that they should have.
    fits: bool,
}

#[derive(Debug, Arbitrary)]
enum GivenValues {
    Bools(Vec<u8>),
    U32s(Vec<u32>),
    U64s(Vec<u64>),
    S64s(Vec<i64>),
    F32s(Vec<f32>),
    F64s(Vec<f64>),
    Texts(Offsets, Vec<u8>),
    Coded(Vec<u32>, Vec<String>),
    Blobs(Offsets, Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Offsets {
    Any(Vec<u32>),
    /// Lengths, from which offsets follow.
    Lengths(Vec<u8>),
}

/// Few names, so that they meet; any other one.
#[derive(Debug, Arbitrary)]
enum Name {
    A,
    B,
    Captions,
    TooShort,
    Empty,
    Schema,
    Other(String),
}

#[derive(Debug, Arbitrary)]
struct Spec {
    name: Name,
    ty: u8,
    many: bool,
    nullable: bool,
}

#[derive(Debug, Arbitrary)]
struct Described {
    texts: [Name; 4],
    reads: Vec<Spec>,
    writes: Vec<Spec>,
    reasons: Vec<(Name, String)>,
    ordered: bool,
    max_batch: Option<u32>,
}

/// Characters of a string that `printable` leaves whole.
const LONGEST: usize = 4096;

const TYPES: [ColumnType; 9] = [
    ColumnType::Bools,
    ColumnType::U32s,
    ColumnType::U64s,
    ColumnType::S64s,
    ColumnType::F32s,
    ColumnType::F64s,
    ColumnType::Texts,
    ColumnType::Coded,
    ColumnType::Blobs,
];

impl Name {
    fn text(self) -> String {
        match self {
            Self::A => "a".into(),
            Self::B => "b".into(),
            Self::Captions => "captions".into(),
            Self::TooShort => "too-short".into(),
            Self::Empty => String::new(),
            Self::Schema => {
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/b"}},"$defs":{"b":{}}}"##.into()
            }
            Self::Other(name) => name,
        }
    }
}

impl Spec {
    fn spec(self) -> ColumnSpec {
        let ty = TYPES[usize::from(self.ty) % TYPES.len()];
        ColumnSpec { name: self.name.text(), ty, many: self.many, nullable: self.nullable }
    }
}

impl Offsets {
    fn list(self) -> Vec<u32> {
        match self {
            Self::Any(offsets) => offsets,
            Self::Lengths(lengths) => {
                let ends = lengths.iter().scan(0, |end, length| {
                    *end += u32::from(*length);
                    Some(*end)
                });
                std::iter::once(0).chain(ends).collect()
            }
        }
    }
}

impl Given {
    fn column(self) -> Column {
        let packed = |offsets: Offsets, mut bytes: Vec<u8>| {
            let offsets = offsets.list();
            let end = offsets.last().copied().unwrap_or(0) as usize;
            if self.fits && end < 1 << 16 {
                bytes.resize(end, b'a');
            }
            Packed { offsets, bytes }
        };
        let values = match self.values {
            GivenValues::Bools(values) => Values::Bools(values),
            GivenValues::U32s(values) => Values::U32s(values),
            GivenValues::U64s(values) => Values::U64s(values),
            GivenValues::S64s(values) => Values::S64s(values),
            GivenValues::F32s(values) => Values::F32s(values),
            GivenValues::F64s(values) => Values::F64s(values),
            GivenValues::Texts(offsets, bytes) => Values::Texts(packed(offsets, bytes)),
            GivenValues::Coded(codes, values) => Values::Coded(Dict { codes, values }),
            GivenValues::Blobs(offsets, bytes) => Values::Blobs(packed(offsets, bytes)),
        };
        let mut validity = self.validity;
        if let Some(validity) = validity.as_mut().filter(|_| self.fits) {
            validity.resize(count_of(&values), 1);
            validity.iter_mut().for_each(|byte| *byte &= 1);
        }
        Column { name: self.name.text(), rows: self.rows.map(Offsets::list), validity, values }
    }
}

fn count_of(values: &Values) -> usize {
    match values {
        Values::Bools(values) => values.len(),
        Values::U32s(values) => values.len(),
        Values::U64s(values) => values.len(),
        Values::S64s(values) => values.len(),
        Values::F32s(values) => values.len(),
        Values::F64s(values) => values.len(),
        Values::Texts(packed) | Values::Blobs(packed) => packed.offsets.len().saturating_sub(1),
        Values::Coded(dict) => dict.codes.len(),
    }
}

/// The declaration that a column would fit.
fn spec_of(column: &Column) -> ColumnSpec {
    let ty = match &column.values {
        Values::Bools(_) => ColumnType::Bools,
        Values::U32s(_) => ColumnType::U32s,
        Values::U64s(_) => ColumnType::U64s,
        Values::S64s(_) => ColumnType::S64s,
        Values::F32s(_) => ColumnType::F32s,
        Values::F64s(_) => ColumnType::F64s,
        Values::Texts(_) => ColumnType::Texts,
        Values::Coded(_) => ColumnType::Coded,
        Values::Blobs(_) => ColumnType::Blobs,
    };
    let (many, nullable) = (column.rows.is_some(), column.validity.is_some());
    ColumnSpec { name: column.name.clone(), ty, many, nullable }
}

impl Answer {
    fn check(self) -> bool {
        match self {
            Self::Verdicts { codes, rows, reasons } => {
                let (rows, reasons) = (usize::from(rows), usize::from(reasons));
                accepted(answer::verdicts(&codes, rows, reasons), || {
                    assert_eq!(codes.len(), rows);
                    assert!(codes.iter().all(|code| usize::from(*code) <= reasons));
                })
            }
            Self::Scores { scores, rows } => accepted(answer::scores(&scores, rows.into()), || {
                assert_eq!(scores.len(), usize::from(rows));
                assert!(scores.iter().all(|score| score.is_finite()));
            }),
            Self::Keys { rows, hashes, count } => {
                let keys = Keys { rows: rows.list(), hashes };
                let count = count.map_or(keys.rows.len().saturating_sub(1), usize::from);
                accepted(answer::keys(&keys, count), || {
                    assert_eq!(keys.rows.len(), count + 1);
                    let hashes =
                        keys.rows.windows(2).map(|pair| &keys.hashes[pair[0] as usize..pair[1] as usize]);
                    assert_eq!(hashes.map(<[u64]>::len).sum::<usize>(), keys.hashes.len());
                })
            }
            Self::Columns { columns, specs, rows } => {
                let columns: Vec<Column> = columns.into_iter().map(Given::column).collect();
                let specs: Vec<ColumnSpec> = match specs {
                    Some(specs) => specs.into_iter().map(Spec::spec).collect(),
                    None => columns.iter().map(spec_of).collect(),
                };
                let cells = |column: &Column| match &column.rows {
                    Some(starts) => starts.len().saturating_sub(1),
                    None => count_of(&column.values),
                };
                let rows = rows.map_or(columns.first().map_or(0, cells), usize::from);
                match answer::columns(&columns, &specs, rows) {
                    Ok(arrays) => {
                        let given: BTreeSet<&str> =
                            columns.iter().map(|column| column.name.as_str()).collect();
                        let declared: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                        assert_eq!(given, declared);
                        assert_eq!(arrays.len(), specs.len());
                        arrays.iter().zip(&specs).for_each(|(array, spec)| is_as_declared(array, spec, rows));
                        true
                    }
                    Err(error) => refused(&error),
                }
            }
            Self::Description { fields, world } => described(*fields, world),
            Self::Text(text) => {
                let shown = printable(&text);
                assert!(!shown.contains(char::is_control));
                // What is long is cut, once more if it grew.
                assert!(shown.chars().count() > LONGEST || printable(&shown) == shown);
                true
            }
        }
    }
}

fn accepted(result: Result<(), answer::BadAnswer>, holds: impl FnOnce()) -> bool {
    match result {
        Ok(()) => {
            holds();
            true
        }
        Err(error) => refused(&error),
    }
}

/// A refusal says why, in words that a terminal can show.
fn refused(error: &answer::BadAnswer) -> bool {
    let message = error.to_string();
    assert!(!message.is_empty());
    false
}

fn is_as_declared(array: &ArrayRef, spec: &ColumnSpec, rows: usize) {
    array.to_data().validate_full().expect("an accepted column is sound");
    assert_eq!(array.len(), rows);
    let values = if spec.many {
        let list = array.as_list::<i32>();
        assert_eq!((list.null_count(), list.value_offsets()[0]), (0, 0));
        assert_eq!(list.value_offsets()[rows] as usize, list.values().len());
        list.values()
    } else {
        array
    };
    assert!(spec.nullable || values.null_count() == 0);
    let ty = match spec.ty {
        ColumnType::Bools => DataType::Boolean,
        ColumnType::U32s => DataType::UInt32,
        ColumnType::U64s => DataType::UInt64,
        ColumnType::S64s => DataType::Int64,
        ColumnType::F32s => DataType::Float32,
        ColumnType::F64s => DataType::Float64,
        ColumnType::Texts | ColumnType::Coded => DataType::Utf8,
        ColumnType::Blobs => DataType::Binary,
    };
    assert_eq!(*values.data_type(), ty);
}

fn described(fields: Described, world: u8) -> bool {
    let [name, version, summary, config_schema] = fields.texts.map(Name::text);
    let description = Description {
        name,
        version,
        summary,
        config_schema,
        reads: fields.reads.into_iter().map(Spec::spec).collect(),
        writes: fields.writes.into_iter().map(Spec::spec).collect(),
        reasons: fields
            .reasons
            .into_iter()
            .map(|(code, help)| DropReason { code: code.text(), help })
            .collect(),
        state: if fields.ordered { State::Ordered } else { State::None },
        max_batch: fields.max_batch,
    };
    let world = World::ALL[usize::from(world) % World::ALL.len()];
    match answer::description(description, world) {
        Ok(checked) => {
            let help = checked.reasons.iter().map(|reason| &reason.help);
            let texts = help.chain([&checked.name, &checked.version, &checked.summary]);
            assert!(texts.into_iter().all(|text| !text.contains(char::is_control)));
            for specs in [&checked.reads, &checked.writes] {
                let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                assert!(names.len() == specs.len() && !names.contains(""));
            }
            assert!(world != World::Filter || !checked.reasons.is_empty());
            assert_ne!(checked.max_batch, Some(0));
            true
        }
        Err(message) => {
            assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
            false
        }
    }
}
