#!/usr/bin/env bash
# Builds the source distribution and the wheel from it in clean environments, and installs each of
# them in another one that has no compiler: the wheel with its kernels, the source without.
#
#   tests/native/check_wheel.sh [PYTHON]    # `make wheel`; PYTHON has `build` and `auditwheel`
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath --no-symlinks "${1:-python3}")
here=$PWD
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

echo "Building"
"$python" -m build --outdir "$work/built" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
PATH=$(dirname "$python"):$PATH "$python" -m auditwheel repair --wheel-dir dist "$work"/built/*.whl
wheel=$(ls -t dist/*.whl | head -n 1)
echo "Built $wheel"

# A new environment, and a command in it, with no program to be found but its own.
install() {
  "$python" -m venv "$work/$1"
  within "$1" python -m pip install --quiet --constraint "$here/constraints.txt" "$2"
}
within() {
  local bin="$work/$1/bin"
  shift
  (cd "$work" && env PATH="$bin" CC=/no/compiler CXX=/no/compiler "$bin/$1" "${@:2}")
}

echo "Installing the wheel without a compiler"
install from_wheel "$here/$wheel"
within from_wheel python "$here/tests/native/check_installed.py"

echo "Installing the source without a compiler"
install from_source "$work"/built/*.tar.gz
within from_source python "$here/tests/native/check_installed.py" missing
