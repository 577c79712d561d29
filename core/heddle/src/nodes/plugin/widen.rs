//! `data.transform` and `data.score`: a plugin gives records new columns, or new values in old ones.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, cast::AsArray};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use heddle_data::{
    Caption, Footer, Manifest, ManifestError, ManifestWriter,
    manifest::{captions_column, fixed_fields},
    record::FIXED_COLUMNS,
};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use heddle_plugin::{ColumnSpec, ColumnType, World};

use super::{
    calls::{Calls, Kept},
    settings::{OnError, Plugged},
};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::Models,
    nodes::{
        Node,
        data::{Records, records_in, same_records},
    },
};

/// The kind `data.transform`.
pub struct Transform;

/// The kind `data.score`.
pub struct Score;

struct Widen {
    plugged: Plugged,
    world: World,
}

impl Kind<dyn Node, Models> for Transform {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.transform",
            version: 1,
            summary: "columns that a plugin gives",
            details: "The plugin is a component of the world `transform-plugin`. The columns that it declares are added, or \
                      replace those of the same name. Where it gives `captions`, their languages stay if their number \
                      does. Records whose batch it fails on have no value there, with `on-error = \"keep\"`.",
            example: "[nodes.tidy]\nkind = \"data.transform\"\nin = \"pairs\"\nplugin = \"embedded:plugins/normalise-captions.wasm\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Widen { plugged: Plugged::read(r, World::Transform), world: World::Transform })
    }
}

impl Kind<dyn Node, Models> for Score {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.score",
            version: 1,
            summary: "a number that a plugin gives every record",
            details: "The plugin is a component of the world `score-plugin`. The number is the column that it declares, for \
                      a `data.filter` or `data.where` behind it to look at.",
            example: "[nodes.scored]\nkind = \"data.score\"\nin = \"pairs\"\nplugin = \"embedded:plugins/caption-quality.wasm\"\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        Box::new(Widen { plugged: Plugged::read(r, World::Score), world: World::Score })
    }
}

impl NodeSpec for Widen {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records that the plugin sees, in chunks")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for Widen {
    fn uses_seed(&self) -> bool {
        true
    }

    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let records = Records::read(cx.input("records")?)?;
        let mut calls = Calls::new(cx, &self.plugged, &records)?;
        let specs = match self.world {
            // A score is declared in whatever type; it is written in single precision.
            World::Score => {
                let one = |spec: &ColumnSpec| ColumnSpec {
                    ty: ColumnType::F32s,
                    many: false,
                    nullable: true,
                    ..spec.clone()
                };
                self.plugged.plugin()?.description().writes.iter().map(one).collect()
            }
            _ => self.plugged.plugin()?.description().writes.clone(),
        };
        let widened = Widened::new(&records.manifest, &specs)?;
        let footer: Footer = (*records.manifest.footer).clone();
        let mut out = ManifestWriter::new(cx.writer()?, widened.schema.clone(), footer)?;
        let on_error = self.plugged.on_error;
        let mut each = |chunk: RecordBatch, columns: Option<Vec<ArrayRef>>| match (columns, on_error) {
            (Some(columns), _) => Ok(out.write(widened.batch(&chunk, Some(&columns))?)?),
            (None, OnError::Keep) => Ok(out.write(widened.batch(&chunk, None)?)?),
            (None, _) => Ok(()),
        };
        match self.world {
            World::Score => calls.run(
                |session, batch| session.score(batch),
                |(chunk, scores)| {
                    let column = |scores: Vec<f32>| vec![Arc::new(Float32Array::from(scores)) as ArrayRef];
                    each(chunk, scores.map(column))
                },
            )?,
            _ => calls.run(
                |session, batch| {
                    let answer = session.transform(batch)?;
                    Ok(heddle_plugin::Answer {
                        value: Columns(answer.value),
                        said: answer.said,
                        fuel: answer.fuel,
                    })
                },
                |(chunk, columns)| each(chunk, columns.map(|columns| columns.0)),
            )?,
        }
        Ok(Outputs::from([("records".to_owned(), Output::Kept(out.finish()?.finish()?))]))
    }
}

/// The columns of a chunk; kept as an Arrow stream.
struct Columns(Vec<ArrayRef>);

impl Kept for Columns {
    fn to_bytes(&self) -> Result<Vec<u8>, NodeError> {
        let fields: Vec<Field> = self
            .0
            .iter()
            .enumerate()
            .map(|(place, column)| Field::new(place.to_string(), column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), self.0.clone()).map_err(ManifestError::from)?;
        let mut writer =
            arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &schema).map_err(ManifestError::from)?;
        writer.write(&batch).map_err(ManifestError::from)?;
        Ok(writer.into_inner().map_err(ManifestError::from)?)
    }

    fn from_bytes(bytes: &[u8], rows: usize) -> Option<Self> {
        let mut reader = arrow_ipc::reader::StreamReader::try_new(bytes, None).ok()?;
        let batch = reader.next()?.ok()?;
        (batch.num_rows() == rows).then(|| Self(batch.columns().to_vec()))
    }
}

/// A manifest's schema with a plugin's columns in it.
struct Widened {
    schema: SchemaRef,
    specs: Vec<ColumnSpec>,
}

impl Widened {
    fn new(manifest: &Manifest, specs: &[ColumnSpec]) -> Result<Self, NodeError> {
        let mut fields: Vec<FieldRef> = manifest.schema().fields().iter().cloned().collect();
        for spec in specs {
            let field = field_of(spec)?;
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                Some(known) => *known = field,
                None => fields.push(field),
            }
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), specs: specs.to_vec() })
    }

    /// The chunk with the plugin's columns, or with nothing in them.
    fn batch(&self, chunk: &RecordBatch, given: Option<&[ArrayRef]>) -> Result<RecordBatch, ManifestError> {
        let column = |field: &FieldRef| -> Result<ArrayRef, ManifestError> {
            let place = self.specs.iter().position(|spec| spec.name == *field.name());
            let old = chunk.column_by_name(field.name());
            match (place.zip(given), old) {
                (Some((place, given)), old) if field.name() == "captions" => captions(&given[place], old),
                (Some((place, given)), _) => Ok(given[place].clone()),
                (None, Some(old)) if old.data_type() == field.data_type() => Ok(old.clone()),
                (None, _) => Ok(arrow_array::new_null_array(field.data_type(), chunk.num_rows())),
            }
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn field_of(spec: &ColumnSpec) -> Result<FieldRef, NodeError> {
    let fixed = fixed_fields().iter().find(|field| *field.name() == spec.name);
    let writable = match spec.name.as_str() {
        "captions" => spec.many && spec.ty == ColumnType::Texts,
        "width" | "height" => !spec.many && spec.ty == ColumnType::U32s,
        name => !FIXED_COLUMNS.contains(&name),
    };
    if !writable {
        return Err(NodeError::Other(format!(
            "the plugin writes `{}`, which records have already; it may write `captions` (texts, several a record), \
             `width` and `height` (u32s), and columns of other names",
            spec.name
        )));
    }
    Ok(fixed.cloned().unwrap_or_else(|| Arc::new(spec.field())))
}

/// New captions in the form that manifests have; languages stay where a record's captions keep their number.
fn captions(texts: &ArrayRef, old: Option<&ArrayRef>) -> Result<ArrayRef, ManifestError> {
    let texts = texts.as_list::<i32>();
    let mut records = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        let cell = texts.value(row);
        let cell = cell.as_string::<i32>();
        let before = old.map(|old| old.as_list::<i32>().value(row));
        let languages = before.as_ref().map(|before| before.as_struct());
        let language = |at: usize| {
            let list = languages.filter(|list| list.len() == cell.len())?.column(1).as_string::<i32>();
            list.is_valid(at).then(|| list.value(at))
        };
        let caption = |at: usize| Caption::new(cell.value(at), language(at));
        records.push((0..cell.len()).filter(|at| cell.is_valid(*at)).map(caption).collect::<Vec<_>>());
    }
    Ok(captions_column(records.iter().map(Vec::as_slice)))
}
