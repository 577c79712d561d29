"""Columns of a batch as Python values, errors, and lines for the run's log.

    for captions, languages in zip(texts(batch, "captions"), coded(batch, "captions.language")):
        ...                                 # a record: a list of texts, and a list of tags of the same length

What a runtime usually has is not there: no files, clock, network or threads. `print` goes to the run's log; `time.time()`
and the `logging` module, which asks for the time, end the plugin.
"""

import functools
import io
import sys
from itertools import pairwise

from componentize_py_types import Err
from wit_world.imports import host, types
from wit_world.imports.types import Column, ColumnSpec, ColumnType, Description, DropReason, State


def texts(batch, name):
    """The texts of every record; one that is absent is None."""
    return _cells(*_values(batch, name, types.Values_Texts, _strings))


def coded(batch, name):
    """The strings of every record in a column of few distinct ones; one that is absent is None."""
    return _cells(*_values(batch, name, types.Values_Coded, lambda d: [d.values[code] for code in d.codes]))


def blobs(batch, name):
    """The bytes of every record; one that is absent is None."""
    return _cells(*_values(batch, name, types.Values_Blobs, _slices))


def numbers(batch, name):
    """The number or truth value of every record, None where it is absent; the cells of a column with several a record."""
    column, values = _values(batch, name, _NUMBERS, list)
    return values if column.rows is None else _cells(column, values)


def config_error(path, message):
    """To raise in `open`: what is wrong with the config, `path` as in `/languages/1`."""
    return Err(types.Error_Config(types.ConfigError(path, message)))


def data_error(message):
    """To raise in `apply`: these records cannot be used."""
    return Err(types.Error_Data(message))


def reported(function):
    """What a function raises that is no error of the interface becomes one, with its place; else it would be a bare trap."""

    @functools.wraps(function)
    def call(*arguments, **named):
        try:
            return function(*arguments, **named)
        except Err:
            raise
        except Exception as error:
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
            raise Err(types.Error_Failed(f"{type(error).__name__}: {error} ({at})")) from None

    return call


def log(message, level=host.Level.INFO):
    """A line in the run's log."""
    host.log(level, str(message))


def count(counter, by=1):
    """Adds to a counter of the run's report."""
    host.count(counter, by)


_NUMBERS = (
    types.Values_Bools,
    types.Values_U32s,
    types.Values_U64s,
    types.Values_S64s,
    types.Values_F32s,
    types.Values_F64s,
)


def _values(batch, name, kind, read):
    """The column of this name, and its values in the order of the records."""
    for column in batch.columns:
        if column.name == name:
            break
    else:
        raise data_error(f"the batch has no column `{name}`")
    if not isinstance(column.values, kind):
        raise data_error(f"column `{name}` has another type")
    values = read(column.values.value)
    if column.validity is not None:
        values = [value if valid else None for value, valid in zip(values, column.validity)]
    return column, values


def _cells(column, values):
    """A list a record."""
    if column.rows is None:
        return [[value] for value in values]
    return [values[start:end] for start, end in pairwise(column.rows)]


def _slices(packed):
    return [packed.bytes[start:end] for start, end in pairwise(packed.offsets)]


def _strings(packed):
    return [packed.bytes[start:end].decode() for start, end in pairwise(packed.offsets)]


class _Lines(io.TextIOBase):
    """A stream whose lines go to the run's log."""

    def __init__(self, level):
        self._level = level
        self._begun = ""

    def writable(self):
        return True

    def write(self, text):
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            log(line, self._level)
        return len(text)


sys.stdout = _Lines(host.Level.INFO)
sys.stderr = _Lines(host.Level.WARN)
