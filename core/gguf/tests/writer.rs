//! Writes small GGUF files for tests; nothing is checked.

/// A file in the making.
pub struct Writer {
    /// The format's version.
    pub version: u32,
    fields: Vec<Vec<u8>>,
    tensors: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A value of a field.
#[allow(dead_code, reason = "every test that includes this file uses some of it")]
#[derive(Debug, Clone)]
pub enum Field<'a> {
    U32(u32),
    I64(i64),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    /// A type and its bytes as they are.
    Raw(u32, Vec<u8>),
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn array(ty: u32, len: usize, elements: Vec<u8>) -> Vec<u8> {
    [ty.to_le_bytes().as_slice(), &(len as u64).to_le_bytes(), &elements].concat()
}

impl Writer {
    pub fn new() -> Self {
        Self { version: 3, fields: Vec::new(), tensors: Vec::new() }
    }

    pub fn field(&mut self, name: &str, value: Field<'_>) -> &mut Self {
        let (ty, bytes) = match value {
            Field::U32(value) => (4, value.to_le_bytes().to_vec()),
            Field::F32(value) => (6, value.to_le_bytes().to_vec()),
            Field::Bool(value) => (7, vec![u8::from(value)]),
            Field::Text(value) => (8, text(value)),
            Field::I64(value) => (11, value.to_le_bytes().to_vec()),
            Field::Texts(values) => {
                (9, array(8, values.len(), values.iter().flat_map(|value| text(value)).collect()))
            }
            Field::I32s(values) => {
                (9, array(5, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            }
            Field::Raw(ty, bytes) => (ty, bytes),
        };
        self.fields.push([text(name), u32::to_le_bytes(ty).to_vec(), bytes].concat());
        self
    }

    /// A tensor with its shape as PyTorch has it, the number of its type and its bytes.
    pub fn tensor(&mut self, name: &str, shape: &[usize], ty: u32, bytes: Vec<u8>) -> &mut Self {
        let mut entry = [text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat();
        shape.iter().rev().for_each(|&size| entry.extend((size as u64).to_le_bytes()));
        entry.extend(ty.to_le_bytes());
        self.tensors.push((entry, bytes));
        self
    }

    /// A tensor of `f32`.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        self.tensor(name, shape, 0, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// The whole file, aligned to 32 bytes.
    pub fn finish(&self) -> Vec<u8> {
        let mut file = [b"GGUF".as_slice(), &self.version.to_le_bytes()].concat();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.fields.len() as u64).to_le_bytes());
        self.fields.iter().for_each(|field| file.extend(field));
        let mut offset = 0_usize;
        for (entry, bytes) in &self.tensors {
            file.extend(entry);
            file.extend((offset as u64).to_le_bytes());
            offset = (offset + bytes.len()).next_multiple_of(32);
        }
        for (_, bytes) in &self.tensors {
            file.resize(file.len().next_multiple_of(32), 0);
            file.extend(bytes);
        }
        file
    }
}
