use arrow_array::{Int64Array, ListArray, StringArray, types::Int32Type};
use arrow_schema::Field;

use super::*;

fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let mut writer = TableWriter::new(Vec::new(), schema.clone()).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.finish().unwrap().into()
}

fn three() -> Bytes {
    let blobs: BinaryArray = [Some(&b"one"[..]), None, Some(b"three")].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None, Some(vec![])]);
    file(vec![
        ("key", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 60)]))),
        ("l", Arc::new(lists)),
        ("png", Arc::new(blobs.clone())),
        ("other", Arc::new(blobs)),
    ])
}

#[test]
fn rows_come_with_the_bytes_that_were_asked_for() {
    let table = Table::open(three()).unwrap();
    assert_eq!((table.len(), byte_columns(table.schema())), (3, vec!["png", "other"]));
    let rows: Vec<Row> = table.rows(Some("png")).unwrap().map(Result::unwrap).collect();
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            let bytes = row.bytes.as_ref().map(|bytes| String::from_utf8(bytes.clone()).unwrap());
            format!("{} {bytes:?}", Value::Object(row.columns.clone()))
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"{"key":"a","n":1,"l":[1]} Some("one")"#,
            r#"{"key":"b"} None"#,
            r#"{"key":"c","n":1152921504606846976,"l":[]} Some("three")"#
        ]
    );
}

#[test]
fn what_is_missing_or_damaged_is_said() {
    let said = |result: Result<Rows, TableError>| result.err().unwrap().to_string();
    let open = || Table::open(three()).unwrap();
    assert_eq!(said(open().rows(Some("jpg"))), "there is no column `jpg`; there are key, n, l, png, other");
    assert_eq!(
        said(open().rows(Some("key"))),
        "column `key` is Utf8; bytes are wanted, or a struct with a field `bytes`"
    );
    for len in 0..three().len() {
        assert!(Table::open(three().slice(..len)).is_err(), "{len} bytes of it opened");
    }
    // Whatever byte is damaged, rows or an error come, and no panic.
    for at in 0..three().len() {
        let mut bytes = three().to_vec();
        bytes[at] ^= 0x55;
        if let Ok(rows) = Table::open(bytes.into()).and_then(|table| table.rows(Some("png"))) {
            rows.take(10).for_each(drop);
        }
    }
}
