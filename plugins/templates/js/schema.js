// JSON Schema of the config; heddle holds a node's `config` table against it before anything runs.
export default {
  type: "object",
  additionalProperties: false,
  properties: {
    min_words: {
      type: "integer",
      minimum: 0,
      maximum: 1000,
      default: 2,
      description: "fewest words; a letter of a script without spaces is a word",
    },
    languages: {
      type: "array",
      items: { type: "string" },
      default: [],
      description: "tags that captions may have; empty for any, and captions without a tag always may",
    },
  },
};
