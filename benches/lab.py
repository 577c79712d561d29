"""An experiment in a temporary folder, and what its run records say of a node."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

HEDDLE = str(pathlib.Path(sys.argv[1]).resolve())
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


class Lab:
    def __init__(self, folder):
        self.folder = folder

    def call(self, *arguments):
        done = subprocess.run([HEDDLE, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    def run(self, node, *arguments):
        """Runs a node; its part of the record."""
        self.call("run", "x.toml", node, "-q", *arguments)
        record = json.loads(self.call("runs", "show", "--json"))
        return next(found for found in record["nodes"] if found["name"] == node)


@contextlib.contextmanager
def lab(experiment, words):
    """A folder with the experiment, in which each of these words has its value."""
    for word, value in words.items():
        experiment = experiment.replace(word, str(value))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "x.toml").write_text(experiment)
        yield Lab(folder)
