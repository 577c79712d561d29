#include "heddle.h"

#include <stdlib.h>
#include <string.h>

static filter_plugin_string_t borrow(const char *text) {
  return (filter_plugin_string_t){(uint8_t *)text, strlen(text)};
}

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  // There is nothing to go on with: the host says that the plugin wanted more memory than it may have.
  if (!memory) __builtin_trap();
  return memory;
}

filter_plugin_string_t heddle_own(const char *text) {
  size_t len = strlen(text);
  return (filter_plugin_string_t){memcpy(allocate(len), text, len), len};
}

// --- columns

const heddle_column *heddle_find(const heddle_batch *batch, const char *name, uint8_t type, heddle_error *error) {
  filter_plugin_string_t wanted = borrow(name);
  for (size_t i = 0; i < batch->columns.len; i++) {
    const heddle_column *column = &batch->columns.ptr[i];
    if (column->name.len != wanted.len || memcmp(column->name.ptr, wanted.ptr, wanted.len) != 0) continue;
    if (column->values.tag == type) return column;
    heddle_data_error(error, "a column has another type than it was declared with");
    return NULL;
  }
  heddle_data_error(error, "the batch lacks a column");
  return NULL;
}

void heddle_cell(const heddle_column *column, uint32_t row, uint32_t *start, uint32_t *end) {
  *start = column->rows.is_some ? column->rows.val.ptr[row] : row;
  *end = column->rows.is_some ? column->rows.val.ptr[row + 1] : row + 1;
}

bool heddle_is_valid(const heddle_column *column, uint32_t at) {
  return !column->validity.is_some || column->validity.val.ptr[at] != 0;
}

heddle_text heddle_text_at(const heddle_column *column, uint32_t at) {
  if (!heddle_is_valid(column, at)) return (heddle_text){NULL, 0};
  if (column->values.tag == HEDDLE_PLUGIN_TYPES_VALUES_CODED) {
    const heddle_plugin_types_dict_t *dict = &column->values.val.coded;
    const filter_plugin_string_t *value = &dict->values.ptr[dict->codes.ptr[at]];
    return (heddle_text){value->ptr, value->len};
  }
  // Texts and blobs have one layout.
  const heddle_plugin_types_packed_t *packed = &column->values.val.texts;
  uint32_t start = packed->offsets.ptr[at], end = packed->offsets.ptr[at + 1];
  return (heddle_text){packed->bytes.ptr + start, end - start};
}

bool heddle_equal(heddle_text a, heddle_text b) {
  return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

uint32_t heddle_next_char(heddle_text *text) {
  // The host gives valid UTF-8; the lengths are looked at all the same.
  uint32_t first = text->ptr[0];
  size_t len = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (len > text->len) len = text->len;
  uint32_t c = len == 1 ? first : first & (0xffu >> (len + 1));
  for (size_t i = 1; i < len; i++) c = c << 6 | (text->ptr[i] & 0x3f);
  text->ptr += len;
  text->len -= len;
  return c;
}

// --- config

static void fail(heddle_config *config) {
  if (!config->failed) {
    // The key is cut where the pointer is full.
    size_t len = config->key.len < sizeof config->pointer - 2 ? config->key.len : sizeof config->pointer - 2;
    config->pointer[0] = len ? '/' : 0;
    if (len) memcpy(config->pointer + 1, config->key.ptr, len);
    config->pointer[len + 1] = 0;
  }
  config->failed = true;
}

static void spaces(heddle_config *config) {
  while (config->rest.len && strchr(" \t\r\n", config->rest.ptr[0])) config->rest.ptr++, config->rest.len--;
}

// Takes this character, if it is the next.
static bool take(heddle_config *config, char c) {
  spaces(config);
  if (!config->rest.len || config->rest.ptr[0] != (uint8_t)c) return false;
  config->rest.ptr++, config->rest.len--;
  return true;
}

static uint32_t hex4(const uint8_t *digits) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    uint8_t c = digits[i];
    value = value << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

static uint8_t *put_char(uint8_t *to, uint32_t c) {
  if (c < 0x80) {
    *to++ = c;
  } else if (c < 0x800) {
    *to++ = 0xc0 | c >> 6;
    *to++ = 0x80 | (c & 0x3f);
  } else if (c < 0x10000) {
    *to++ = 0xe0 | c >> 12;
    *to++ = 0x80 | (c >> 6 & 0x3f);
    *to++ = 0x80 | (c & 0x3f);
  } else {
    *to++ = 0xf0 | c >> 18;
    *to++ = 0x80 | (c >> 12 & 0x3f);
    *to++ = 0x80 | (c >> 6 & 0x3f);
    *to++ = 0x80 | (c & 0x3f);
  }
  return to;
}

// One `\...` at the beginning of `from`; gives its length.
static size_t escape(const uint8_t *from, size_t len, uint8_t **to) {
  static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  const char *letter = strchr(letters, from[1]);
  if (letter && from[1]) {
    *(*to)++ = meant[letter - letters];
    return 2;
  }
  uint32_t c = len >= 6 ? hex4(from + 2) : 0xfffd;
  size_t taken = len >= 6 ? 6 : len;
  // A pair of surrogates is one character.
  if (c >= 0xd800 && c < 0xdc00 && len >= 12 && from[6] == '\\') {
    c = 0x10000 + ((c - 0xd800) << 10) + (hex4(from + 8) - 0xdc00);
    taken = 12;
  }
  *to = put_char(*to, c);
  return taken;
}

// A string; its bytes are a copy without escapes.
static heddle_text string(heddle_config *config) {
  if (!take(config, '"')) {
    fail(config);
    return (heddle_text){NULL, 0};
  }
  const uint8_t *from = config->rest.ptr;
  size_t len = 0;
  while (len < config->rest.len && from[len] != '"') len += from[len] == '\\' ? 2 : 1;
  if (len >= config->rest.len) {
    fail(config);
    return (heddle_text){NULL, 0};
  }
  uint8_t *start = allocate(len), *to = start;
  for (size_t i = 0; i < len;) {
    if (from[i] == '\\') i += escape(from + i, len - i, &to);
    else *to++ = from[i++];
  }
  config->rest.ptr += len + 1, config->rest.len -= len + 1;
  return (heddle_text){start, to - start};
}

// Skips a value of any kind.
static void skip(heddle_config *config) {
  size_t depth = 0;
  do {
    spaces(config);
    if (!config->rest.len) return fail(config);
    uint8_t c = config->rest.ptr[0];
    if (c == '"') {
      free((void *)string(config).ptr);
      continue;
    }
    depth += c == '{' || c == '[';
    depth -= c == '}' || c == ']';
    config->rest.ptr++, config->rest.len--;
    // A number or a word goes on to what ends it.
    while (!strchr("{}[],:", c) && config->rest.len && !strchr(" \t\r\n{}[],:", config->rest.ptr[0])) {
      config->rest.ptr++, config->rest.len--;
    }
  } while (depth && !config->failed);
}

heddle_config heddle_config_begin(const filter_plugin_string_t *json) {
  heddle_config config = {{json->ptr, json->len}, {NULL, 0}, false, ""};
  if (!take(&config, '{')) fail(&config);
  return config;
}

bool heddle_config_next(heddle_config *config) {
  if (config->failed) return false;
  if (config->key.ptr) {
    // The value of the key before, where nobody asked for it.
    if (take(config, ':')) skip(config);
    free((void *)config->key.ptr);
    config->key = (heddle_text){NULL, 0};
    take(config, ',');
  }
  if (config->failed || take(config, '}')) return false;
  config->key = string(config);
  return !config->failed;
}

bool heddle_config_is(const heddle_config *config, const char *key) {
  return heddle_equal(config->key, (heddle_text){(const uint8_t *)key, strlen(key)});
}

uint32_t heddle_config_u32(heddle_config *config) {
  uint64_t value = 0;
  size_t digits = 0;
  if (!take(config, ':')) fail(config);
  spaces(config);
  while (config->rest.len && config->rest.ptr[0] >= '0' && config->rest.ptr[0] <= '9' && value <= UINT32_MAX) {
    value = value * 10 + (config->rest.ptr[0] - '0');
    config->rest.ptr++, config->rest.len--, digits++;
  }
  bool ended = config->rest.len && strchr(" \t\r\n,}", config->rest.ptr[0]);
  if (!digits || !ended || value > UINT32_MAX) fail(config);
  return (uint32_t)value;
}

const heddle_text *heddle_config_texts(heddle_config *config, size_t *count) {
  heddle_text *texts = NULL;
  *count = 0;
  if (!take(config, ':') || !take(config, '[')) fail(config);
  while (!config->failed && !take(config, ']')) {
    texts = realloc(texts, (*count + 1) * sizeof *texts);
    if (!texts) __builtin_trap();
    texts[(*count)++] = string(config);
    take(config, ',');
  }
  return texts;
}

// --- errors, log

bool heddle_config_error(heddle_error *error, const char *pointer, const char *message) {
  error->tag = HEDDLE_PLUGIN_TYPES_ERROR_CONFIG;
  error->val.config.path = heddle_own(pointer);
  error->val.config.message = heddle_own(message);
  return false;
}

bool heddle_data_error(heddle_error *error, const char *message) {
  error->tag = HEDDLE_PLUGIN_TYPES_ERROR_DATA;
  error->val.data = heddle_own(message);
  return false;
}

void heddle_log(const char *message) {
  filter_plugin_string_t line = borrow(message);
  heddle_plugin_host_log(HEDDLE_PLUGIN_HOST_LEVEL_INFO, &line);
}

void heddle_count(const char *counter, uint64_t by) {
  filter_plugin_string_t name = borrow(counter);
  heddle_plugin_host_count(&name, by);
}

void heddle_free_batch(heddle_batch *batch) { heddle_plugin_types_batch_free(batch); }

void heddle_free_config(filter_plugin_string_t *config) { filter_plugin_string_free(config); }
