//! Records for benchmarks: captions of 1 to 14 words in three languages, the same ones for the same number.

/// What a rule looks at.
pub struct Row {
    /// One caption with its language.
    pub captions: Vec<(String, &'static str)>,
}

const WORDS: [(&str, &[&str]); 3] = [
    (
        "en",
        &[
            "a", "photo", "of", "the", "small", "dog", "running", "beside", "house", "with", "red", "roof",
            "under", "bright", "summer", "sky", "free", "shipping", "vintage", "poster",
        ],
    ),
    (
        "it",
        &[
            "una", "foto", "del", "piccolo", "cane", "che", "corre", "accanto", "alla", "casa", "con",
            "tetto", "rosso", "sotto", "cielo", "estivo",
        ],
    ),
    ("zh", &["一只", "小狗", "在", "红色", "房子", "旁边", "奔跑", "的", "照片", "夏天", "天空"]),
];

/// Rows `0 .. count`.
pub fn rows(count: usize) -> Vec<Row> {
    (0..count as u64).map(row).collect()
}

fn row(number: u64) -> Row {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    let mut draw = |below: usize| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    };
    // Two thirds English.
    let (language, words) = WORDS[[0, 0, 0, 0, 1, 2][draw(6)]];
    let count = 1 + draw(14);
    let mut caption = String::new();
    for place in 0..count {
        if place > 0 {
            caption.push(' ');
        }
        caption.push_str(words[draw(words.len())]);
    }
    Row { captions: vec![(caption, language)] }
}
