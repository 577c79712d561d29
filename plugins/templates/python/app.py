"""Drops records whose captions are too short or in other languages."""

import json
import re
from pathlib import Path

from heddle import ColumnSpec, ColumnType, Description, DropReason, State, coded, config_error, reported, texts

# What stands here runs when the plugin is built: files can be read, and what is computed is kept.
SCHEMA = Path(__file__).with_name("config.schema.json").read_text()
REASONS = [
    DropReason("too-short", "captions have fewer words than the config asks for"),
    DropReason("wrong-language", "captions are tagged with languages that the config does not list"),
]
TOO_SHORT, WRONG_LANGUAGE = 1, 2

SPACES = "\t-\r \u00a0\u3000"
# Scripts without spaces between words: Thai and its like, Kana, Han.
DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(f"[{DENSE}]|[^{SPACES}{DENSE}]+")


def count_words(text):
    """Runs of characters between spaces, and every letter of a script without spaces."""
    return len(WORD.findall(text))


class Rule:
    """What the config asks for."""

    def __init__(self, config):
        self.min_words = config.get("min_words", 2)
        self.languages = frozenset(config.get("languages", []))
        if self.min_words == 0 and not self.languages:
            raise config_error("", "nothing would be dropped: set `min_words` or `languages`")

    def fault(self, text, language):
        """The number of the reason to drop a caption, or 0."""
        if count_words(text) < self.min_words:
            return TOO_SHORT
        if language is not None and self.languages and language not in self.languages:
            return WRONG_LANGUAGE
        return 0

    def verdict(self, captions, languages):
        """A record goes if all of its captions fail, for the first one's reason; one without captions stays."""
        first = 0
        for text, language in zip(captions, languages):
            fault = self.fault(text, language)
            if not fault:
                return 0
            first = first or fault
        return first


rule = None


class Lifecycle:
    """How the plugin starts."""

    def describe(self):
        return Description(
            name="my-filter",
            version="0.1.0",
            summary="drops records whose captions are too short or in other languages",
            config_schema=SCHEMA,
            reads=[
                ColumnSpec("captions", ColumnType.TEXTS, many=True, nullable=False),
                ColumnSpec("captions.language", ColumnType.CODED, many=True, nullable=True),
            ],
            writes=[],
            reasons=REASONS,
            state=State.NONE,
            max_batch=None,
        )

    @reported
    def open(self, config, seed):
        global rule
        rule = Rule(json.loads(config))


class Filter:
    """The verdicts."""

    @reported
    def apply(self, b):
        return bytes(map(rule.verdict, texts(b, "captions"), coded(b, "captions.language")))
