#!/usr/bin/env bash
# Opens what `heddle data export` and `heddle export` write with the tools that the forms are of: pyarrow, pycocotools, webdataset,
# safetensors, and where they are installed torchvision and clip-benchmark. Makes an environment of its own under target/; without Python or its packages, says
# so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
heddle=${1:-target/debug/heddle}
venv=${FORMATS_VENV:-target/formats-venv}
if ! [[ -x $venv/bin/python ]]; then
  python3 -m venv "$venv" >/dev/null 2>&1 || { echo 'LEFT OUT: no Python with venv here'; exit 0; }
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check pillow 'pyarrow==26.*' 'pycocotools==2.0.*' 'webdataset==1.*' 'safetensors==0.*' numpy >/dev/null 2>&1 \
  || { echo 'LEFT OUT: the packages cannot be installed here'; exit 0; }
"$venv/bin/python" -W ignore tests/formats/check.py "$heddle"
