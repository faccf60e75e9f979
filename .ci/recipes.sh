#!/usr/bin/env bash
# Axolotl and Unsloth in .cache/recipes, for tests: Axolotl with as much as it takes to train a tiny model on a CPU,
# Unsloth, which wants a GPU, for its source alone. Both pin versions of what we have in others, so neither is installed.
#   .ci/recipes.sh PYTHON     the interpreter that fetches them, and that the tests run in
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=(
  axolotl unsloth
  addict axolotl-contribs-lgpl axolotl-contribs-mit bitsandbytes colorama evaluate fastcore fire llvmlite numba
  platformdirs posthog protobuf termcolor wandb
)
home=.cache/recipes
python=${1:-.venv/bin/python}
wanted=()
for name in "${names[@]}"; do
  wanted+=("$(grep -i "^$name==" constraints.txt)")
done
if [ "$(cat "$home/.wanted" 2>/dev/null)" = "${wanted[*]}" ]; then
  exit 0
fi

echo "fetching axolotl and unsloth into $home"
rm -rf "$home"
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet uv
"$python" -m uv pip install --quiet --python "$python" --no-deps --target "$home" "${wanted[@]}"
echo "${wanted[*]}" >"$home/.wanted"
