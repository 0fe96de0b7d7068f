#!/bin/sh
# Cuts the embedded subset out of the whole Fashion-MNIST: the first 12,000 training and the first 2,000 test samples,
# unchanged and in their order, as gzip-compressed IDX files. The result depends on the input alone (no name, no time).
# Usage: make-embedded-data.sh [SOURCE] [TARGET]
#   SOURCE: a folder with the four .gz files of Fashion-MNIST; by default where Debian's dataset-fashion-mnist puts them
#   TARGET: where to write; by default fashion-mnist beside this script
set -eu
source=${1:-/usr/share/datasets/fashion-mnist}
target=${2:-$(dirname "$0")/fashion-mnist}
mkdir -p "$target"

# cut_idx NAME COUNT COUNT_AS_FOUR_BYTES HEADER_BYTES_AFTER_COUNT BYTES_PER_SAMPLE
# An IDX header is a magic number (4 bytes), the count (4 bytes, big-endian), and for images the height and width (4 bytes each).
cut_idx() {
    gzip -dc "$source/$1.gz" > "$target/$1.whole"
    {
        head -c 4 "$target/$1.whole"
        printf "$3"
        tail -c +9 "$target/$1.whole" | head -c $(($4 + $2 * $5))
    } | gzip -9n > "$target/$1.gz"
    rm "$target/$1.whole"
}

cut_idx train-images-idx3-ubyte 12000 '\000\000\056\340' 8 784
cut_idx train-labels-idx1-ubyte 12000 '\000\000\056\340' 0 1
cut_idx t10k-images-idx3-ubyte 2000 '\000\000\007\320' 8 784
cut_idx t10k-labels-idx1-ubyte 2000 '\000\000\007\320' 0 1
