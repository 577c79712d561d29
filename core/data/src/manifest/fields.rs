//! The columns that every manifest has: their types, and how they are built.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use arrow_array::{
    ArrayRef, ListArray, StructArray,
    builder::{FixedSizeBinaryBuilder, StringBuilder, UInt32Builder, UInt64Builder},
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields};

use super::ManifestError;
use crate::{
    digest::Digest,
    record::{Caption, Part},
};

const DIGEST: DataType = DataType::FixedSizeBinary(32);

static PART: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("len", DataType::UInt64, false),
        Field::new("digest", DIGEST, false),
    ])
});

static CAPTION: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("text", DataType::Utf8, false),
        Field::new("language", DataType::Utf8, true),
    ])
});

static FIXED: LazyLock<Vec<FieldRef>> = LazyLock::new(|| {
    let list = |fields: &Fields| DataType::List(item(fields));
    let field = |name: &str, ty: DataType, nullable: bool| Arc::new(Field::new(name, ty, nullable));
    vec![
        field("key", DataType::Utf8, false),
        field("source", DataType::Utf8, false),
        field("shard", DataType::UInt32, false),
        field("parts", list(&PART), false),
        field("digest", DIGEST, false),
        field("captions", list(&CAPTION), false),
        field("width", DataType::UInt32, true),
        field("height", DataType::UInt32, true),
    ]
});

fn item(fields: &Fields) -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(fields.clone()), false))
}

/// The fields of the fixed columns, in order.
pub fn fixed_fields() -> &'static [FieldRef] {
    &FIXED
}

/// Builds the fixed columns record by record; a data set's own columns are set beside them.
pub struct FixedColumns {
    key: StringBuilder,
    source: StringBuilder,
    shard: UInt32Builder,
    parts: Parts,
    digest: FixedSizeBinaryBuilder,
    captions: Captions,
    width: UInt32Builder,
    height: UInt32Builder,
    rows: usize,
}

struct Parts {
    ends: Vec<i32>,
    name: StringBuilder,
    path: StringBuilder,
    offset: UInt64Builder,
    len: UInt64Builder,
    digest: FixedSizeBinaryBuilder,
}

struct Captions {
    ends: Vec<i32>,
    text: StringBuilder,
    language: StringBuilder,
}

impl Default for FixedColumns {
    fn default() -> Self {
        let digests = || FixedSizeBinaryBuilder::new(32);
        Self {
            key: StringBuilder::new(),
            source: StringBuilder::new(),
            shard: UInt32Builder::new(),
            parts: Parts {
                ends: vec![0],
                name: StringBuilder::new(),
                path: StringBuilder::new(),
                offset: UInt64Builder::new(),
                len: UInt64Builder::new(),
                digest: digests(),
            },
            digest: digests(),
            captions: Captions { ends: vec![0], text: StringBuilder::new(), language: StringBuilder::new() },
            width: UInt32Builder::new(),
            height: UInt32Builder::new(),
            rows: 0,
        }
    }
}

impl FixedColumns {
    /// Appends a record that lies in the shard at this place of the footer's list.
    ///
    /// # Errors
    /// Never, as long as digests have 32 bytes.
    #[expect(clippy::too_many_arguments, reason = "one per column")]
    pub fn push(
        &mut self,
        key: &str,
        source: &str,
        shard: u32,
        parts: &BTreeMap<String, Part>,
        digest: &Digest,
        captions: &[Caption],
        size: Option<[u32; 2]>,
    ) -> Result<(), ManifestError> {
        self.key.append_value(key);
        self.source.append_value(source);
        self.shard.append_value(shard);
        for (name, part) in parts {
            self.parts.name.append_value(name);
            self.parts.path.append_value(&part.path);
            self.parts.offset.append_value(part.offset);
            self.parts.len.append_value(part.len);
            self.parts.digest.append_value(part.digest)?;
        }
        end(&mut self.parts.ends, parts.len());
        self.digest.append_value(digest)?;
        for caption in captions {
            self.captions.text.append_value(&caption.text);
            self.captions.language.append_option(caption.language.as_deref());
        }
        end(&mut self.captions.ends, captions.len());
        self.width.append_option(size.map(|[width, _]| width));
        self.height.append_option(size.map(|[_, height]| height));
        self.rows += 1;
        Ok(())
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns in the order of [`fixed_fields`].
    pub fn finish(mut self) -> Vec<ArrayRef> {
        let parts: Vec<ArrayRef> = vec![
            Arc::new(self.parts.name.finish()),
            Arc::new(self.parts.path.finish()),
            Arc::new(self.parts.offset.finish()),
            Arc::new(self.parts.len.finish()),
            Arc::new(self.parts.digest.finish()),
        ];
        let captions: Vec<ArrayRef> =
            vec![Arc::new(self.captions.text.finish()), Arc::new(self.captions.language.finish())];
        vec![
            Arc::new(self.key.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.shard.finish()),
            list(&PART, self.parts.ends, parts),
            Arc::new(self.digest.finish()),
            list(&CAPTION, self.captions.ends, captions),
            Arc::new(self.width.finish()),
            Arc::new(self.height.finish()),
        ]
    }
}

/// The captions of records as the column that manifests have; a transform that rewrites them gives this.
pub fn captions_column<'a>(records: impl IntoIterator<Item = &'a [Caption]>) -> ArrayRef {
    let mut captions = Captions { ends: vec![0], text: StringBuilder::new(), language: StringBuilder::new() };
    for record in records {
        for caption in record {
            captions.text.append_value(&caption.text);
            captions.language.append_option(caption.language.as_deref());
        }
        end(&mut captions.ends, record.len());
    }
    list(
        &CAPTION,
        captions.ends,
        vec![Arc::new(captions.text.finish()), Arc::new(captions.language.finish())],
    )
}

fn end(ends: &mut Vec<i32>, count: usize) {
    // A batch has at most thousands of records; 2^31 parts or captions do not occur before memory ends.
    let last = ends.last().copied().unwrap_or(0);
    ends.push(last.saturating_add(i32::try_from(count).unwrap_or(i32::MAX)));
}

fn list(fields: &Fields, ends: Vec<i32>, columns: Vec<ArrayRef>) -> ArrayRef {
    let values = StructArray::new(fields.clone(), columns, None);
    Arc::new(ListArray::new(item(fields), OffsetBuffer::new(ends.into()), Arc::new(values), None))
}
