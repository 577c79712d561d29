// Columns of a batch as JavaScript values, errors, and lines for the run's log.
//
//   const captions = texts(batch, "captions"), languages = coded(batch, "captions.language");
//   captions.cell(row)           // the texts of a record
//
// What a runtime usually has is not there: no files, clock, network or timers.

import { count as addTo, log as logLine } from "heddle:plugin/host@0.1.0";

/** A column: `at(i)` is a value (null where it is absent), `cell(row)` are the values of a record. */
class Column {
  constructor(column, at) {
    this.rows = column.rows;
    this.at = column.validity ? (i) => (column.validity[i] ? at(i) : null) : at;
  }

  cell(row) {
    const [start, end] = this.rows ? [this.rows[row], this.rows[row + 1]] : [row, row + 1];
    const values = [];
    for (let i = start; i < end; i++) values.push(this.at(i));
    return values;
  }
}

/** A column of texts. */
export function texts(batch, name) {
  const { column, values } = find(batch, name, ["texts"]);
  const { offsets, bytes } = values;
  return new Column(column, (i) => decode(bytes, offsets[i], offsets[i + 1]));
}

/** A column of few distinct strings. */
export function coded(batch, name) {
  const { column, values } = find(batch, name, ["coded"]);
  return new Column(column, (i) => values.values[values.codes[i]]);
}

/** A column of bytes. */
export function blobs(batch, name) {
  const { column, values } = find(batch, name, ["blobs"]);
  return new Column(column, (i) => values.bytes.subarray(values.offsets[i], values.offsets[i + 1]));
}

/** A column of numbers (64-bit integers are BigInts) or of truth values (0 or 1). */
export function numbers(batch, name) {
  const { column, values } = find(batch, name, ["bools", "u32s", "u64s", "s64s", "f32s", "f64s"]);
  return new Column(column, (i) => values[i]);
}

/** To throw in `open`: what is wrong with the config, `path` as in `/languages/1`. */
export function configError(path, message) {
  return { tag: "config", val: { path, message } };
}

/** To throw in `apply`: these records cannot be used. */
export function dataError(message) {
  return { tag: "data", val: message };
}

/** The function, but what it throws that is no error of the interface becomes one; else it would be a bare trap. */
export function reported(call) {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const place = error.stack?.trim().split("\n")[0].trim() ?? "";
      throw { tag: "failed", val: `${error.name}: ${error.message} (${place})` };
    }
  };
}

/** A line in the run's log; `level` is debug, info, warn or error. */
export function log(message, level = "info") {
  logLine(level, String(message));
}

/** Adds to a counter of the run's report. */
export function count(counter, by = 1) {
  addTo(counter, BigInt(by));
}

globalThis.console = {
  debug: (...words) => log(words.join(" "), "debug"),
  log: (...words) => log(words.join(" "), "info"),
  info: (...words) => log(words.join(" "), "info"),
  warn: (...words) => log(words.join(" "), "warn"),
  error: (...words) => log(words.join(" "), "error"),
};

function find(batch, name, types) {
  const column = batch.columns.find((column) => column.name === name);
  if (!column) throw dataError(`the batch has no column \`${name}\``);
  const { tag, val } = column.values;
  if (!types.includes(tag)) throw dataError(`column \`${name}\` holds ${tag}`);
  return { column, values: val };
}

const ASCII = /^[\0-\x7f]*$/;
/** A call takes so many arguments at most. */
const PIECE = 32768;

/** UTF-8 to a string. The runtime has no TextDecoder; these are faster than a loop over bytes. */
function decode(bytes, start, end) {
  let text = "";
  for (let at = start; at < end; at += PIECE) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, Math.min(at + PIECE, end)));
  }
  return ASCII.test(text) ? text : decodeURIComponent(escape(text));
}
