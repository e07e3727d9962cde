#!/bin/sh
# Install Veduta with what `veduta serve` needs into a new virtual environment:
#
#   deploy/install.sh FOLDER
#
# The versions are those of constraints.txt. PYTHON names another Python than python3.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/python" -m pip --disable-pip-version-check install --quiet \
    --constraint "$source/constraints.txt" "$source[web]"
