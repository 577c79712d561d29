//! Tokenizers as nodes.

use crate::util::Dir;

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
