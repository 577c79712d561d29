//! Columns that a node adds to a manifest's, or puts in place of those of the same name.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, Schema, SchemaRef};

use super::ManifestError;

/// A schema with columns added to it.
#[derive(Debug)]
pub struct Added {
    /// All columns: those of before in their order, then the new ones.
    pub schema: SchemaRef,
    fields: Vec<FieldRef>,
}

impl Added {
    /// Adds these fields to a schema.
    pub fn new(schema: &SchemaRef, fields: Vec<FieldRef>) -> Self {
        let mut all: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        for field in &fields {
            match all.iter_mut().find(|known| known.name() == field.name()) {
                Some(known) => *known = field.clone(),
                None => all.push(field.clone()),
            }
        }
        Self { schema: Arc::new(Schema::new(all)), fields }
    }

    /// A batch of the schema of before with its new columns, in the order of their fields.
    ///
    /// # Errors
    /// If an array is of another type or length than its field and the batch.
    pub fn batch(&self, batch: &RecordBatch, arrays: &[ArrayRef]) -> Result<RecordBatch, ManifestError> {
        let column = |field: &FieldRef| {
            let new =
                self.fields.iter().position(|new| new.name() == field.name()).and_then(|at| arrays.get(at));
            let array = new.or_else(|| batch.column_by_name(field.name())).cloned();
            array.ok_or_else(|| ManifestError::Format(format!("no values for column `{}`", field.name())))
        };
        let columns = self.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
