//! `data.language`: finds out which language captions are in.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field};
use heddle_data::{
    Caption, ManifestWriter,
    manifest::{Added, captions_column, fixed_fields},
};
use heddle_graph::{
    config::Reader,
    graph::{InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort},
};
use rayon::prelude::*;
use whatlang::{Detector, Lang};

use super::{Records, records_in, same_records};
use crate::{
    exec::{NodeError, Output, Outputs, RunContext, Weight},
    model::Models,
    nodes::Node,
};

/// The kind.
pub struct Language;

struct Detect {
    detector: Detector,
    confidence: f64,
    overwrite: bool,
    column: String,
}

impl Kind<dyn Node, Models> for Language {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "data.language",
            version: 1,
            summary: "finds the language of captions, and a column `language`",
            details: "Trigrams and scripts (the crate `whatlang`, 70 languages) give each caption without a language the one that it is most \
                      likely in, as a BCP 47 tag (`en`, `zh`); below `confidence` it stays unknown. Short texts are \
                      guesses: say which languages there are with `among`. Column `language` is that of most of a record's captions, the first \
                      of equal ones, and absent where none is known.",
            example: "[nodes.spoken]\nkind = \"data.language\"\nin = \"pairs\"\namong = [\"en\", \"it\", \"zh\", \"ja\", \"ar\"]\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &Models) -> Box<dyn Node> {
        let among: Option<Vec<String>> =
            r.field("among", "languages that there may be, as BCP 47 tags; default: all").optional();
        let confidence = r.field("confidence", "least confidence, from 0 to 1").range(0.0..=1.0).or(0.5);
        let overwrite =
            r.field("overwrite", "whether captions that have a language are looked at too").or(false);
        let column: String = r.field("column", "name of the column").or("language".to_owned());
        let detector = match &among {
            None => Detector::new(),
            Some(tags) => {
                let unknown: Vec<&str> =
                    tags.iter().map(String::as_str).filter(|tag| lang_of(tag).is_none()).collect();
                if !unknown.is_empty() {
                    let mut known: Vec<String> = Lang::all().iter().map(|lang| tag_of(*lang)).collect();
                    known.sort_unstable();
                    let help = format!("known are {}", known.join(", "));
                    r.error("among", format!("no such language: {}", unknown.join(", ")), Some(&help));
                }
                if tags.is_empty() {
                    r.error("among", "no language is left", Some("leave `among` out to allow all"));
                }
                Detector::with_allowlist(tags.iter().filter_map(|tag| lang_of(tag)).collect())
            }
        };
        Box::new(Detect { detector, confidence, overwrite, column })
    }
}

impl NodeSpec for Detect {
    fn inputs(&self) -> Vec<InPort> {
        records_in("records whose captions are looked at")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        Ok(vec![OutPort::new("records", same_records(inputs))])
    }
}

impl Node for Detect {
    fn weight(&self) -> Weight {
        Weight::Compute
    }

    fn run(&self, cx: &RunContext<'_>) -> Result<Outputs, NodeError> {
        let Records { manifest, .. } = Records::read(cx.input("records")?)?;
        let captions = fixed_fields().iter().find(|field| field.name() == "captions");
        let captions =
            captions.cloned().ok_or_else(|| NodeError::Other("records have no captions".into()))?;
        let language = Arc::new(Field::new(&self.column, DataType::Utf8, true));
        let added = Added::new(manifest.schema(), vec![captions, language]);
        let mut out = ManifestWriter::new(cx.writer()?, added.schema.clone(), (*manifest.footer).clone())?;
        let mut known = 0_u64;
        for batch in manifest.batches() {
            cx.check_cancelled()?;
            let batch = batch?;
            let mut all: Vec<Vec<Caption>> =
                manifest.records_of(&batch)?.into_iter().map(|record| record.captions).collect();
            all.par_iter_mut().flatten().for_each(|caption| self.tell(caption));
            let languages: StringArray = all.iter().map(|captions| most(captions)).collect();
            known += all.iter().flatten().filter(|caption| caption.language.is_some()).count() as u64;
            let arrays: [ArrayRef; 2] = [captions_column(all.iter().map(Vec::as_slice)), Arc::new(languages)];
            out.write(added.batch(&batch, &arrays)?)?;
        }
        cx.progress.note(format!("the language of {known} captions is known"));
        let records = out.finish()?.finish()?;
        Ok(Outputs::from([("records".to_owned(), Output::Kept(records))]))
    }
}

impl Detect {
    fn tell(&self, caption: &mut Caption) {
        if caption.language.is_some() && !self.overwrite {
            return;
        }
        let info = self.detector.detect(&caption.text);
        let info = info.filter(|info| info.confidence() >= self.confidence);
        caption.language = info.map(|info| tag_of(info.lang()));
    }
}

/// The language of most of these captions, the first of equal ones.
fn most(captions: &[Caption]) -> Option<&str> {
    let languages: Vec<&str> = captions.iter().filter_map(|caption| caption.language.as_deref()).collect();
    let count = |language: &str| languages.iter().filter(|other| **other == language).count();
    let mut best: Option<(&str, usize)> = None;
    for language in &languages {
        let count = count(language);
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((language, count));
        }
    }
    best.map(|(language, _)| language)
}

/// ISO 639-3 codes of `whatlang` whose language has a code of two letters, and that code: the BCP 47 tag.
const TAGS: &[(Lang, &str)] = &[
    (Lang::Epo, "eo"),
    (Lang::Eng, "en"),
    (Lang::Rus, "ru"),
    (Lang::Cmn, "zh"),
    (Lang::Spa, "es"),
    (Lang::Por, "pt"),
    (Lang::Ita, "it"),
    (Lang::Ben, "bn"),
    (Lang::Fra, "fr"),
    (Lang::Deu, "de"),
    (Lang::Ukr, "uk"),
    (Lang::Kat, "ka"),
    (Lang::Ara, "ar"),
    (Lang::Hin, "hi"),
    (Lang::Jpn, "ja"),
    (Lang::Heb, "he"),
    (Lang::Yid, "yi"),
    (Lang::Pol, "pl"),
    (Lang::Amh, "am"),
    (Lang::Jav, "jv"),
    (Lang::Kor, "ko"),
    (Lang::Nob, "nb"),
    (Lang::Dan, "da"),
    (Lang::Swe, "sv"),
    (Lang::Fin, "fi"),
    (Lang::Tur, "tr"),
    (Lang::Nld, "nl"),
    (Lang::Hun, "hu"),
    (Lang::Ces, "cs"),
    (Lang::Ell, "el"),
    (Lang::Bul, "bg"),
    (Lang::Bel, "be"),
    (Lang::Mar, "mr"),
    (Lang::Kan, "kn"),
    (Lang::Ron, "ro"),
    (Lang::Slv, "sl"),
    (Lang::Hrv, "hr"),
    (Lang::Srp, "sr"),
    (Lang::Mkd, "mk"),
    (Lang::Lit, "lt"),
    (Lang::Lav, "lv"),
    (Lang::Est, "et"),
    (Lang::Tam, "ta"),
    (Lang::Vie, "vi"),
    (Lang::Urd, "ur"),
    (Lang::Tha, "th"),
    (Lang::Guj, "gu"),
    (Lang::Uzb, "uz"),
    (Lang::Pan, "pa"),
    (Lang::Aze, "az"),
    (Lang::Ind, "id"),
    (Lang::Tel, "te"),
    (Lang::Pes, "fa"),
    (Lang::Mal, "ml"),
    (Lang::Ori, "or"),
    (Lang::Mya, "my"),
    (Lang::Nep, "ne"),
    (Lang::Sin, "si"),
    (Lang::Khm, "km"),
    (Lang::Tuk, "tk"),
    (Lang::Aka, "ak"),
    (Lang::Zul, "zu"),
    (Lang::Sna, "sn"),
    (Lang::Afr, "af"),
    (Lang::Lat, "la"),
    (Lang::Slk, "sk"),
    (Lang::Cat, "ca"),
    (Lang::Tgl, "tl"),
    (Lang::Hye, "hy"),
    (Lang::Cym, "cy"),
];

fn tag_of(lang: Lang) -> String {
    let known = TAGS.iter().find(|(known, _)| *known == lang);
    known.map_or_else(|| lang.code().to_owned(), |(_, tag)| (*tag).to_owned())
}

fn lang_of(tag: &str) -> Option<Lang> {
    Lang::all().iter().copied().find(|lang| tag_of(*lang) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_tag_of_its_own() {
        let mut tags: Vec<String> = Lang::all().iter().map(|lang| tag_of(*lang)).collect();
        assert!(tags.iter().all(|tag| tag.len() == 2), "{tags:?}");
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), Lang::all().len());
    }

    #[test]
    fn captions_keep_what_they_say_of_themselves() {
        let tags = ["en", "it", "zh", "ja", "ar"];
        let detector = Detector::with_allowlist(tags.into_iter().filter_map(lang_of).collect());
        let tell = |text: &str, language: Option<&str>, overwrite| {
            let node =
                Detect { detector: detector.clone(), confidence: 0.2, overwrite, column: String::new() };
            let mut caption = Caption::new(text, language);
            node.tell(&mut caption);
            caption.language
        };
        for (text, language) in [
            ("a picture of a small dog in front of the house", "en"),
            ("una bella giornata con il sole e le nuvole", "it"),
            ("红苹果的图片", "zh"),
            ("かわいい猫の絵文字", "ja"),
            ("صورة قطة صغيرة", "ar"),
        ] {
            assert_eq!(tell(text, None, false).as_deref(), Some(language), "{text}");
            assert_eq!(tell(text, Some("xx"), false).as_deref(), Some("xx"));
            assert_eq!(tell(text, Some("xx"), true).as_deref(), Some(language));
        }
        assert_eq!(tell("", Some("en"), true), None);
        let captions = [("a", Some("it")), ("b", None), ("c", Some("en")), ("d", Some("en"))];
        assert_eq!(most(&captions.map(|(text, language)| Caption::new(text, language))), Some("en"));
        assert_eq!(most(&captions.map(|(text, _)| Caption::new(text, None))), None);
    }
}
