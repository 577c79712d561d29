//! `heddle init`: experiments, graphs and data as plain files.

use std::{fs, path::Path};

use super::{
    args::InitOptions,
    exit::{Exit, Failure},
    output,
};

/// The files that the program carries besides the data.
const FILES: &[(&str, &str)] = &[
    ("experiments/quickstart.toml", include_str!("../../../../experiments/quickstart.toml")),
    ("graphs/internvl-c.toml", include_str!("../../../../graphs/internvl-c.toml")),
    ("experiments/three-stages.toml", include_str!("../../../../experiments/three-stages.toml")),
    ("graphs/internvl-c-flat.toml", include_str!("../../../../graphs/internvl-c-flat.toml")),
    ("graphs/internvl-g.toml", include_str!("../../../../graphs/internvl-g.toml")),
    ("graphs/internvl-chat.toml", include_str!("../../../../graphs/internvl-chat.toml")),
    ("graphs/internvl-chat-mlp.toml", include_str!("../../../../graphs/internvl-chat-mlp.toml")),
    ("graphs/dialogue-model.toml", include_str!("../../../../graphs/dialogue-model.toml")),
    ("experiments/linear-probe.toml", include_str!("../../../../experiments/linear-probe.toml")),
    ("graphs/linear-probe.toml", include_str!("../../../../graphs/linear-probe.toml")),
    ("graphs/language-model.toml", include_str!("../../../../graphs/language-model.toml")),
];

/// Runs the command. Nothing that exists is overwritten.
pub fn run(options: &InitOptions) -> Result<Exit, Failure> {
    let dir = &options.dir;
    let mut written = 0;
    for (name, text) in FILES {
        written += usize::from(write(&dir.join(name), text.as_bytes())?);
    }
    for file in heddle_data::emoji::files() {
        let path = dir.join("data/emoji").join(file.name);
        let bytes = file.bytes().map_err(Failure::io(format!("unpacking {}", file.name)))?;
        written += usize::from(write(&path, &bytes)?);
    }
    output::result(&format!("wrote {written} files to {}", dir.display()));
    output::note(&format!(
        "next: heddle run {}\nthe experiment reads the embedded data; to read the files instead, replace \
         `embedded:emoji/` by `../data/emoji/`",
        dir.join("experiments/quickstart.toml").display()
    ));
    Ok(Exit::Done)
}

/// Writes a new file; `false` if it is there already with these bytes, an error if with others.
fn write(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    if let Ok(existing) = fs::read(path) {
        if existing == bytes {
            return Ok(false);
        }
        output::note(&format!("left alone, since it differs: {}", path.display()));
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::io(format!("making {}", folder.display())))?;
    }
    fs::write(path, bytes).map_err(Failure::io(format!("writing {}", path.display())))?;
    Ok(true)
}
