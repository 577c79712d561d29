// Drops records whose captions are too short or in other languages.

#include "heddle.h"

#include <stdlib.h>
#include <string.h>

static const char SCHEMA[] = HEDDLE_JSON({
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "min_words": {
      "type": "integer", "minimum": 0, "maximum": 1000, "default": 2,
      "description": "fewest words; a letter of a script without spaces is a word"
    },
    "languages": {
      "type": "array", "items": { "type": "string" }, "default": [],
      "description": "tags that captions may have; empty for any, and captions without a tag always may"
    }
  }
});

// Verdicts: numbers of the reasons below.
enum { KEEP, TOO_SHORT, WRONG_LANGUAGE };

// What the config asks for.
static uint32_t min_words = 2;
static const heddle_text *languages;
static size_t language_count;

static bool is_space(uint32_t c) { return (c >= 0x09 && c <= 0x0d) || c == ' ' || c == 0xa0 || c == 0x3000; }

// Scripts without spaces between words: Thai and its like, Kana, Han.
static bool is_dense(uint32_t c) {
  return (c >= 0x0e00 && c <= 0x0eff) || (c >= 0x1000 && c <= 0x109f) || (c >= 0x1780 && c <= 0x17ff) ||
         (c >= 0x3040 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x3ffff);
}

// Runs of characters between spaces, and every letter of a script without spaces.
static uint32_t count_words(heddle_text text) {
  uint32_t words = 0;
  bool inside = false;
  while (text.len) {
    uint32_t c = heddle_next_char(&text);
    bool dense = is_dense(c), space = is_space(c);
    words += dense || (!space && !inside);
    inside = !dense && !space;
  }
  return words;
}

static bool is_listed(heddle_text language) {
  for (size_t i = 0; i < language_count; i++) {
    if (heddle_equal(languages[i], language)) return true;
  }
  return false;
}

// The reason to drop a caption, if there is one.
static uint8_t fault(heddle_text text, heddle_text language) {
  if (count_words(text) < min_words) return TOO_SHORT;
  if (language.ptr && language_count && !is_listed(language)) return WRONG_LANGUAGE;
  return KEEP;
}

// A record goes if all of its captions fail, for the first one's reason; one without captions stays.
static uint8_t verdict(const heddle_column *captions, const heddle_column *tags, uint32_t row) {
  uint32_t start, end;
  uint8_t first = KEEP;
  heddle_cell(captions, row, &start, &end);
  for (uint32_t at = start; at < end; at++) {
    uint8_t found = fault(heddle_text_at(captions, at), heddle_text_at(tags, at));
    if (found == KEEP) return KEEP;
    if (first == KEEP) first = found;
  }
  return first;
}

void exports_heddle_plugin_lifecycle_describe(exports_heddle_plugin_lifecycle_description_t *description) {
  memset(description, 0, sizeof *description);
  description->name = heddle_own("my-filter");
  description->version = heddle_own("0.1.0");
  description->summary = heddle_own("drops records whose captions are too short or in other languages");
  description->config_schema = heddle_own(SCHEMA);

  heddle_plugin_types_column_spec_t reads[] = {
      {heddle_own("captions"), HEDDLE_PLUGIN_TYPES_COLUMN_TYPE_TEXTS, .many = true, .nullable = false},
      {heddle_own("captions.language"), HEDDLE_PLUGIN_TYPES_COLUMN_TYPE_CODED, .many = true, .nullable = true},
  };
  description->reads.len = sizeof reads / sizeof *reads;
  description->reads.ptr = memcpy(malloc(sizeof reads), reads, sizeof reads);

  heddle_plugin_types_drop_reason_t reasons[] = {
      {heddle_own("too-short"), heddle_own("captions have fewer words than the config asks for")},
      {heddle_own("wrong-language"), heddle_own("captions are tagged with languages that the config does not list")},
  };
  description->reasons.len = sizeof reasons / sizeof *reasons;
  description->reasons.ptr = memcpy(malloc(sizeof reasons), reasons, sizeof reasons);
}

bool exports_heddle_plugin_lifecycle_open(filter_plugin_string_t *json, uint64_t seed, heddle_error *error) {
  (void)seed;
  heddle_config config = heddle_config_begin(json);
  while (heddle_config_next(&config)) {
    if (heddle_config_is(&config, "min_words")) min_words = heddle_config_u32(&config);
    else if (heddle_config_is(&config, "languages")) languages = heddle_config_texts(&config, &language_count);
  }
  heddle_free_config(json);
  if (config.failed) return heddle_config_error(error, config.pointer, "not as the schema has it");
  if (!min_words && !language_count) {
    return heddle_config_error(error, "", "nothing would be dropped: set `min_words` or `languages`");
  }
  return true;
}

bool exports_heddle_plugin_filter_apply(heddle_batch *batch, filter_plugin_list_u8_t *verdicts, heddle_error *error) {
  const heddle_column *captions = heddle_find(batch, "captions", HEDDLE_PLUGIN_TYPES_VALUES_TEXTS, error);
  const heddle_column *tags =
      captions ? heddle_find(batch, "captions.language", HEDDLE_PLUGIN_TYPES_VALUES_CODED, error) : NULL;
  if (tags) {
    *verdicts = (filter_plugin_list_u8_t){malloc(batch->rows), batch->rows};
    for (uint32_t row = 0; row < batch->rows; row++) verdicts->ptr[row] = verdict(captions, tags, row);
  }
  heddle_free_batch(batch);
  return tags != NULL;
}
