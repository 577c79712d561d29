"""A chain of 100 nodes in heddle, DVC and Snakemake: a run that has nothing to do, and one after a parameter in the middle changed.

    python benches/peers/pipeline.py HEDDLE [BIN]

BIN is the folder with `dvc` and `snakemake` (pip install dvc snakemake). Commands are trivial: DVC and Snakemake copy a small file
with one line more, heddle filters 200 records. Every tool runs its 100 steps once, then is timed, best of three.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

COUNT, MIDDLE = 100, 50


def timed(command, cwd, env=None):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def heddle(folder, binary):
    def write(middle):
        nodes = ['[nodes.n0]\nkind = "data.webdataset"\nlimit = 200\nimage = { size = 16 }\n']
        for i in range(1, COUNT):
            expression = f"size(en) > {middle}" if i == MIDDLE else f"size(en) != {1000 + i}"
            nodes.append(f'[nodes.n{i}]\nkind = "data.where"\nin = "n{i - 1}"\nexpression = "{expression}"\n')
        (folder / "chain.toml").write_text("schema = 1\n" + "\n".join(nodes))

    return write, [binary, "run", "chain.toml", "-q"]


def dvc(folder, path):
    def write(middle):
        (folder / "params.yaml").write_text(f"middle: {middle}\n")
        stages = ["stages:"]
        for i in range(COUNT):
            source = f"f{i - 1}" if i else "start"
            word = "${middle}" if i == MIDDLE else str(i)
            stages += [f"  n{i}:", f"    cmd: sh -c 'cat {source} > f{i}; echo {word} >> f{i}'", f"    deps: [{source}]"]
            stages += ["    params: [middle]"] if i == MIDDLE else []
            stages += [f"    outs: [f{i}]"]
        (folder / "dvc.yaml").write_text("\n".join(stages) + "\n")

    (folder / "start").write_text("start\n")
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    timed([path / "dvc", "init", "--no-scm", "-q"], folder, env)
    return write, [path / "dvc", "repro", "-q"]


def snakemake(folder, path):
    def write(middle):
        rules = [f'rule all:\n    input: "f{COUNT - 1}"\n']
        for i in range(COUNT):
            source = f"f{i - 1}" if i else "start"
            word = f"{{params.word}}" if i == MIDDLE else str(i)
            param = f'    params: word="{middle}"\n' if i == MIDDLE else ""
            rules.append(
                f'rule n{i}:\n    input: "{source}"\n    output: "f{i}"\n{param}'
                f'    shell: "cat {source} > f{i}; echo {word} >> f{i}"\n'
            )
        (folder / "Snakefile").write_text("\n".join(rules))

    (folder / "start").write_text("start\n")
    return write, [path / "snakemake", "-q", "all", "--cores", "2"]


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    path = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(shutil.which("dvc") or "/none").parent
    tools = {"heddle": (heddle, binary)}
    if path.is_dir():
        tools |= {"dvc": (dvc, path), "snakemake": (snakemake, path)}
    result = {}
    for name, (tool, argument) in tools.items():
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            write, command = tool(folder, argument)
            write(1)
            first = timed(command, folder)
            nothing = min(timed(command, folder) for _ in range(3))
            changed = []
            for middle in (5, 7, 9):
                write(middle)
                changed.append(timed(command, folder))
            result[name] = (first, nothing, min(changed))
            print(f"{name}: first {first:.2f} s, nothing to do {nothing:.3f} s, one parameter changed {min(changed):.2f} s", flush=True)
    for name in list(result)[1:]:
        print(f"{name} / heddle: nothing to do {result[name][1] / result['heddle'][1]:.1f}, changed {result[name][2] / result['heddle'][2]:.1f}")


main()
