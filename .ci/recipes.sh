#!/usr/bin/env bash
# The sources of Axolotl and Unsloth, in .cache/recipes: what is written for them is checked against them. Neither can
# run here, so that none of what they need is fetched but the one package that Axolotl's schema imports.
#   .ci/recipes.sh PYTHON     the interpreter that fetches them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

axolotl=$(sed -n 's/^axolotl==//p' constraints.txt)
unsloth=$(sed -n 's/^unsloth==//p' constraints.txt)
addict=$(sed -n 's/^addict==//p' constraints.txt)
home=.cache/recipes
stamp="$home/.axolotl-$axolotl-unsloth-$unsloth"
python=${1:-.venv/bin/python}
if [ -e "$stamp" ]; then
  exit 0
fi

echo "fetching axolotl $axolotl and unsloth $unsloth into $home"
rm -rf "$home"
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet uv
"$python" -m uv pip install --quiet --python "$python" --no-deps --target "$home" \
  "axolotl==$axolotl" "unsloth==$unsloth" "addict==$addict"
touch "$stamp"
