// Columns of a batch, the config, errors, and lines for the run's log.
//
// What a function is given belongs to it: `apply` frees its batch and `open` its config (`heddle_free_batch`,
// `heddle_free_config`). What it returns must come from malloc, as `heddle_own` makes it; the host's glue frees it.
#ifndef HEDDLE_H
#define HEDDLE_H

#include "bindings/filter_plugin.h"

typedef heddle_plugin_types_batch_t heddle_batch;
typedef heddle_plugin_types_column_t heddle_column;
typedef heddle_plugin_types_error_t heddle_error;

// JSON as it stands in the source, as a string.
#define HEDDLE_JSON(...) #__VA_ARGS__

// Bytes of UTF-8 that belong to somebody else; `ptr` is NULL where a value is absent.
typedef struct {
  const uint8_t *ptr;
  size_t len;
} heddle_text;

// A copy of a string that the receiver frees.
filter_plugin_string_t heddle_own(const char *text);

// The column of this name and type (HEDDLE_PLUGIN_TYPES_VALUES_...); without one it fills in `error` and gives NULL.
const heddle_column *heddle_find(const heddle_batch *batch, const char *name, uint8_t type, heddle_error *error);

// The places of a record's values: from `*start` to before `*end`.
void heddle_cell(const heddle_column *column, uint32_t row, uint32_t *start, uint32_t *end);

// Whether the value at a place is there.
bool heddle_is_valid(const heddle_column *column, uint32_t at);

// The value at a place of a column of texts, of coded strings, or of blobs.
heddle_text heddle_text_at(const heddle_column *column, uint32_t at);

// Whether a text is this string.
bool heddle_equal(heddle_text a, heddle_text b);

// The next character of a text that is not empty; moves its beginning.
uint32_t heddle_next_char(heddle_text *text);

// The config: a JSON object. Reads one key after the other, in any order:
//
//   heddle_config config = heddle_config_begin(json);
//   while (heddle_config_next(&config)) {
//     if (heddle_config_is(&config, "min_words")) min_words = heddle_config_u32(&config);
//     else if (heddle_config_is(&config, "languages")) languages = heddle_config_texts(&config, &count);
//   }
//   if (config.failed) return heddle_config_error(error, config.pointer, "...");
//
// Values that are not asked for are skipped.
typedef struct {
  heddle_text rest;
  heddle_text key;
  bool failed;
  // Where a value was wrong, as a JSON pointer.
  char pointer[64];
} heddle_config;

heddle_config heddle_config_begin(const filter_plugin_string_t *json);
bool heddle_config_next(heddle_config *config);
bool heddle_config_is(const heddle_config *config, const char *key);
// A whole number from 0 to 4,294,967,295 without a fraction or an exponent.
uint32_t heddle_config_u32(heddle_config *config);
// An array of strings; it and its texts are kept for as long as the plugin runs.
const heddle_text *heddle_config_texts(heddle_config *config, size_t *count);

// What is wrong with the config, `pointer` as in `/languages/1`. Both fill in `error` and give false, which is to be returned.
bool heddle_config_error(heddle_error *error, const char *pointer, const char *message);
// These records cannot be used.
bool heddle_data_error(heddle_error *error, const char *message);

// A line in the run's log, and a count in its report.
void heddle_log(const char *message);
void heddle_count(const char *counter, uint64_t by);

void heddle_free_batch(heddle_batch *batch);
void heddle_free_config(filter_plugin_string_t *config);

#endif
