//! Tokenizers as nodes.

use crate::util::{Dir, repository};

/// Records with dialogues, whose pictures nobody opens.
fn dialogues() -> Dir {
    let dir = Dir::empty();
    dir.write("images/1.png", "bytes");
    let turns =
        r#"[{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a zebra"}]"#;
    dir.write("d.json", format!(r#"[{{"id": "1", "image": "1.png", "conversations": {turns}}}]"#));
    dir
}

const SOURCE: &str =
    "schema = 1\n[nodes.d]\nkind = \"data.llava\"\nconversations = \"d.json\"\nfolder = \"images\"\n";

#[test]
fn tokens_are_added_and_told() {
    let dir = dialogues();
    let bpe = "[nodes.bpe]\nkind = \"text.bpe\"\nin = \"d\"\nvocab = 300\ncolumns = [\"conversations\"]\n\
               tokens = [\"<IMG>\", \"</IMG>\"]\n";
    dir.write("x.toml", format!("{SOURCE}{bpe}"));
    let ended = dir.done(&["run", "x.toml"]);
    // 3 specials, 256 bytes, and the merges that two texts give.
    assert!(ended.stderr.contains("tokens added: <IMG> 276, </IMG> 277"), "{ended}");
    dir.write("x.toml", format!("{SOURCE}{}", bpe.replace("conversations\"]", "dialogue\"]")));
    let ended = dir.heddle(&["run", "x.toml"]);
    assert!(ended.stderr.contains("no record has text in the column `dialogue`"), "{ended}");
}

#[test]
fn a_sentencepiece_model_becomes_a_tokenizer() {
    let dir = Dir::empty();
    let model = repository().join("core/data/tests/fixtures/sentencepiece/llama.model");
    dir.write("tokenizer.model", std::fs::read(model).unwrap());
    let node = "schema = 1\n[nodes.x]\nkind = \"text.sentencepiece\"\nfile = \"tokenizer.model\"\ntokens = [\"<IMG>\"]\n";
    dir.write("x.toml", node);
    let ended = dir.done(&["run", "x.toml"]);
    assert!(
        ended.stderr.contains("x: 420 pieces") && ended.stderr.contains("tokens added: <IMG> 420"),
        "{ended}"
    );
    dir.write("tokenizer.model", "something else");
    let ended = dir.heddle(&["run", "x.toml"]);
    assert!(ended.stderr.contains("not a SentencePiece model that can be read"), "{ended}");
}
