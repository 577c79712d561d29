//! What files give, and what damaged ones do not do.
#![expect(clippy::unwrap_used, reason = "tests")]

mod writer;

use heddle_gguf::{Gguf, GgufError, TensorType, Value, ValueType};
use proptest::prelude::*;
use writer::{Field, Writer};

/// A file with every kind of field and tensor that is read.
fn file() -> Writer {
    let mut writer = Writer::new();
    writer
        .field("general.architecture", Field::Text("llama"))
        .field("llama.block_count", Field::U32(30))
        .field("llama.rope.freq_base", Field::F32(1e5))
        .field("a.negative", Field::I64(-7))
        .field("a.truth", Field::Bool(true))
        .field("tokenizer.ggml.tokens", Field::Texts(vec!["a".into(), String::new(), "é".into()]))
        .field("tokenizer.ggml.token_type", Field::I32s(vec![1, 3, -1]))
        .floats("norm", &[3], &[1.0, 2.0, 3.0])
        .tensor("matrix", &[2, 32], 3, vec![0; 40])
        .tensor("bytes", &[1, 32], 8, vec![0; 34])
        .tensor("nibbles", &[32], 2, vec![0; 18])
        .tensor("halves", &[2, 1], 1, vec![0, 0x3c, 0, 0xc0])
        .tensor("k-quant", &[256], 14, vec![0; 210]);
    writer
}

#[test]
fn fields_and_tensors_are_read() {
    let bytes = file().finish();
    let gguf = Gguf::parse(&bytes).unwrap();
    assert_eq!((gguf.version(), gguf.fields().count(), gguf.tensors().count()), (3, 7, 6));
    assert_eq!(gguf.needed("general.architecture", "text", Value::as_text), Ok("llama"));
    assert_eq!(gguf.needed("llama.block_count", "a count", Value::as_u64), Ok(30));
    assert_eq!(gguf.needed("llama.rope.freq_base", "a number", Value::as_f64), Ok(1e5));
    assert_eq!(gguf.field("a.negative"), Some(Value::Signed(ValueType::I64, -7)));
    assert_eq!(gguf.field("a.truth").unwrap().as_bool(), Some(true));
    let tokens = gguf.needed("tokenizer.ggml.tokens", "an array", Value::as_array).unwrap();
    assert_eq!(tokens.iter().map(|token| token.as_text().unwrap()).collect::<Vec<_>>(), ["a", "", "é"]);
    let types = gguf.field("tokenizer.ggml.token_type").unwrap().as_array().unwrap();
    assert_eq!(types.iter().map(|ty| ty.as_u64()).collect::<Vec<_>>(), [Some(1), Some(3), None]);

    let matrix = gguf.tensor("matrix").unwrap();
    assert_eq!((matrix.ty, matrix.shape.as_slice(), matrix.len), (TensorType::Q4_1, &[2, 32][..], 64));
    assert_eq!(gguf.dequantize("norm").unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(gguf.dequantize("halves").unwrap(), [1.0, -2.0]);
    for (name, len) in [("matrix", 64), ("bytes", 32), ("nibbles", 32)] {
        assert_eq!(gguf.dequantize(name).unwrap().len(), len, "{name}");
    }
    let mut second = file();
    second.version = 2;
    assert_eq!(Gguf::parse(&second.finish()).unwrap().version(), 2);
}

#[test]
fn mistakes_are_named() {
    let error = |bytes: &[u8]| Gguf::parse(bytes).unwrap_err();
    let with = |change: &dyn Fn(&mut Writer)| {
        let mut writer = file();
        change(&mut writer);
        error(&writer.finish())
    };
    assert_eq!(error(b"GGML"), GgufError::Magic);
    assert_eq!(with(&|w| w.version = 1), GgufError::Version(1));
    let twice = with(&|w| {
        w.field("a.truth", Field::Bool(false));
    });
    assert_eq!(twice, GgufError::Twice { what: "fields", name: "a.truth".into() });
    let alignment = with(&|w| {
        w.field("general.alignment", Field::U32(24));
    });
    assert_eq!(alignment, GgufError::Alignment(24));
    let unknown = with(&|w| {
        w.field("x", Field::Raw(13, vec![]));
    });
    assert_eq!(unknown, GgufError::ValueType { field: "x".into(), tag: 13 });
    let long = [8_u32.to_le_bytes().as_slice(), &u64::MAX.to_le_bytes()].concat();
    let count = with(&|w| {
        w.field("x", Field::Raw(9, long.clone()));
    });
    assert_eq!(count, GgufError::Count { what: "elements of an array", count: u64::MAX });
    let nested = [9_u32.to_le_bytes().as_slice(), &1_u64.to_le_bytes()].concat().repeat(1000);
    let depth = with(&|w| {
        w.field("x", Field::Raw(9, nested.clone()));
    });
    assert_eq!(depth, GgufError::Depth { field: "x".into(), most: 4 });
    let text = with(&|w| {
        w.field("x", Field::Raw(8, [&[1, 0, 0, 0, 0, 0, 0, 0], &[0xff][..]].concat()));
    });
    assert!(matches!(text, GgufError::Text { .. }), "{text}");

    let row = with(&|w| {
        w.tensor("t", &[31], 2, vec![0; 18]);
    });
    assert_eq!(row.to_string(), "tensor `t`: rows of 31 elements are no blocks of 32 (Q4_0)");
    let large = with(&|w| {
        w.tensor("t", &[1 << 40, 1 << 40], 0, vec![]);
    });
    assert!(large.to_string().contains("is too large"), "{large}");
    let beyond = with(&|w| {
        w.tensor("t", &[64], 0, vec![0; 8]);
    });
    assert_eq!(beyond.to_string(), "tensor `t`: it ends beyond the file; was the file cut short?");
    let many = with(&|w| {
        w.tensor("t", &[1; 5], 0, vec![0; 4]);
    });
    assert_eq!(many.to_string(), "tensor `t`: 5 dimensions, more than 4");

    let bytes = file().finish();
    let gguf = Gguf::parse(&bytes).unwrap();
    let other = gguf.dequantize("k-quant").unwrap_err();
    assert_eq!(
        other.to_string(),
        "tensor `k-quant`: ggml type 14 is not read; F32, F16, BF16, Q4_0, Q4_1 and Q8_0 are"
    );
    assert_eq!(gguf.dequantize("none").unwrap_err().to_string(), "tensor `none`: it is not there");
    let field = |name| gguf.needed(name, "a count", Value::as_u64).unwrap_err().to_string();
    assert_eq!(field("a.truth"), "the field `a.truth` is bool, not a count");
    assert_eq!(field("none"), "there is no field `none`");
}

/// Uses everything that parses; how it ends does not matter.
fn use_all(bytes: &[u8]) {
    let Ok(gguf) = Gguf::parse(bytes) else { return };
    for (_, value) in gguf.fields() {
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    for (name, info) in gguf.tensors() {
        if let Ok(values) = gguf.dequantize(name) {
            assert_eq!(values.len(), info.len);
        }
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let mut whole = file();
    whole.floats("last", &[1], &[1.0]);
    let bytes = whole.finish();
    for len in 0..bytes.len() {
        assert!(Gguf::parse(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    assert!(Gguf::parse(&bytes).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Bytes and eight-byte numbers are overwritten, pieces cut out or doubled.
    #[test]
    fn hostile_bytes_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..5), 1..6),
    ) {
        let mut bytes = file().finish();
        for (index, byte, how) in edits {
            let at = index.index(bytes.len());
            let piece = at..bytes.len().min(at + usize::from(byte));
            match how {
                0 => bytes[at] = byte,
                1 => bytes.iter_mut().skip(at).take(8).for_each(|found| *found = byte),
                2 => bytes.iter_mut().skip(at).take(8).for_each(|found| *found = 0xff),
                3 => drop(bytes.drain(piece)),
                _ => bytes.splice(at..at, bytes[piece].to_vec()).for_each(drop),
            }
            if bytes.is_empty() {
                break;
            }
        }
        use_all(&bytes);
    }

    #[test]
    fn arbitrary_headers_do_no_harm(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        use_all(&[b"GGUF\x03\0\0\0".as_slice(), &rest].concat());
    }
}
