#!/usr/bin/env bash
# Makes the environment in which the real cerebras.pytorch runs: setup.sh FOLDER
# Its wheels are built for Python 3.11; PYTHON names another interpreter of that version.
set -euo pipefail

folder=${1:?usage: setup.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
export PIP_CONSTRAINT=$here/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1

"${PYTHON:-python3.11}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    { echo "cerebras.pytorch 2.10 needs Python 3.11: name one in PYTHON" >&2; exit 2; }
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/pip" install --quiet --requirement "$here/requirements.txt"
"$folder/bin/pip" install --quiet --no-deps cerebras-pytorch cerebras-appliance
