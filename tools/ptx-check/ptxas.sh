#!/usr/bin/env bash
# Assembles the PTX of every kernel for its target with ptxas, where a CUDA toolkit is on the PATH, and shows what each takes:
#   tools/ptx-check/ptxas.sh DIR      (DIR as written by tools/PtxDump)
# Fails where ptxas refuses a kernel, or spills registers.
set -euo pipefail
folder=${1:?"usage: ptxas.sh DIR, with the folder that PtxDump wrote"}
if ! command -v ptxas > /dev/null; then
    echo "ptxas is not on the PATH: install a CUDA toolkit to check the kernels with it. Nothing was checked."
    exit 0
fi

checked=0
for file in "$folder"/sm_*/*.ptx; do
    [ -e "$file" ] || { echo "There is no PTX in $folder." >&2; exit 1; }
    target=$(basename "$(dirname "$file")")
    # Toolkits drop old targets; that is no fault of the kernel.
    if ! ptxas --help | grep -q "$target"; then
        echo "$target: not a target of this ptxas, $(basename "$file") was not checked"
        continue
    fi
    output=$(ptxas --gpu-name "$target" --verbose --output-file /dev/null "$file" 2>&1) || { echo "$output" >&2; exit 1; }
    echo "$target $(basename "$file" .ptx): $(grep -o 'Used [0-9]* registers.*' <<< "$output")"
    if grep -qE '[1-9][0-9]* bytes spill' <<< "$output"; then echo "$file spills registers" >&2; exit 1; fi
    checked=$((checked + 1))
done
echo "$checked kernels assembled"
