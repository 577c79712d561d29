// Drops records whose captions are too short or in other languages.

import { coded, configError, reported, texts } from "./heddle.js";
import schema from "./schema.js";

const reasons = [
  { code: "too-short", help: "captions have fewer words than the config asks for" },
  { code: "wrong-language", help: "captions are tagged with languages that the config does not list" },
];
const TOO_SHORT = 1, WRONG_LANGUAGE = 2;

const spaces = "\\t-\\r \\u00a0\\u3000";
// Scripts without spaces between words: Thai and its like, Kana, Han.
const dense =
  "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const word = new RegExp(`[${dense}]|[^${spaces}${dense}]+`, "gu");

/** Runs of characters between spaces, and every letter of a script without spaces. */
function countWords(text) {
  return text.match(word)?.length ?? 0;
}

/** What the config asks for. */
class Rule {
  constructor({ min_words = 2, languages = [] }) {
    this.minWords = min_words;
    this.languages = new Set(languages);
    if (min_words === 0 && languages.length === 0) {
      throw configError("", "nothing would be dropped: set `min_words` or `languages`");
    }
  }

  /** The number of the reason to drop a caption, or 0. */
  fault(text, language) {
    if (countWords(text) < this.minWords) return TOO_SHORT;
    if (language !== null && this.languages.size > 0 && !this.languages.has(language)) return WRONG_LANGUAGE;
    return 0;
  }

  /** A record goes if all of its captions fail, for the first one's reason; one without captions stays. */
  verdict(captions, languages) {
    let first = 0;
    for (let i = 0; i < captions.length; i++) {
      const fault = this.fault(captions[i], languages[i]);
      if (fault === 0) return 0;
      first ||= fault;
    }
    return first;
  }
}

let rule;

/** How the plugin starts. */
export const lifecycle = {
  describe() {
    return {
      name: "my-filter",
      version: "0.1.0",
      summary: "drops records whose captions are too short or in other languages",
      configSchema: JSON.stringify(schema),
      reads: [
        { name: "captions", ty: "texts", many: true, nullable: false },
        { name: "captions.language", ty: "coded", many: true, nullable: true },
      ],
      writes: [],
      reasons,
      state: "none",
      maxBatch: undefined,
    };
  },

  open: reported((config, seed) => {
    rule = new Rule(JSON.parse(config));
  }),
};

/** The verdicts. */
export const filter = {
  apply: reported((batch) => {
    const captions = texts(batch, "captions"), languages = coded(batch, "captions.language");
    const verdicts = new Uint8Array(batch.rows);
    for (let row = 0; row < batch.rows; row++) {
      verdicts[row] = rule.verdict(captions.cell(row), languages.cell(row));
    }
    return verdicts;
  }),
};
