#!/usr/bin/env bash
# The real llama-server and llama.cpp's converters, from the source package of llama-cpp-python, in .cache/llama.
#   .ci/llama.sh PYTHON     the interpreter that fetches the package
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.3.36
home=.cache/llama
stamp="$home/.llama-$version"
python=${1:-.venv/bin/python}
if [ -e "$stamp" ]; then
  exit 0
fi

echo "building llama-server from llama-cpp-python $version in $home; this takes some minutes"
mkdir -p "$home"
work=$(mktemp -d "$home/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet scikit-build-core cmake ninja
"$work/tools/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python --no-build-isolation \
  --dest "$work" "llama-cpp-python==$version"
tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
source="$work/llama_cpp_python-$version/vendor/llama.cpp"
PATH="$PWD/$work/tools/bin:$PATH" cmake -S "$source" -B "$work/out" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=ON \
  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF >"$work/log" 2>&1 \
  && PATH="$PWD/$work/tools/bin:$PATH" cmake --build "$work/out" --target llama-server >>"$work/log" 2>&1 \
  || { tail -30 "$work/log" >&2; exit 1; }
mkdir -p "$home/bin" "$home/convert"
cp "$work/out/bin/llama-server" "$home/bin/"
cp -r "$source/convert_hf_to_gguf.py" "$source/convert_lora_to_gguf.py" "$source/conversion" "$source/gguf-py" \
  "$home/convert/"
"$home/bin/llama-server" --version >/dev/null 2>&1
touch "$stamp"
