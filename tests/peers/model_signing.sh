#!/usr/bin/env bash
# The public verifier of OpenSSF Model Signing accepts an artifact that we signed, and refuses it once a byte differs.
#
#   tests/peers/model_signing.sh DIR PEM      DIR holds model.sig; PEM is the public key
#
# MODEL_SIGNING names the program (default: model_signing; pip install model-signing==1.1.1 pyopenssl; the second is needed and not declared). Exit 77 when it is absent.
set -euo pipefail

directory=${1:?usage: tests/peers/model_signing.sh DIR PEM}
pem=${2:?usage: tests/peers/model_signing.sh DIR PEM}
program=${MODEL_SIGNING:-model_signing}
if ! command -v "$program" >/dev/null; then
    echo "SKIP: $program is absent; pip install model-signing==1.1.1 pyopenssl, or set MODEL_SIGNING"
    exit 77
fi

# 1.1 spells the options with an underscore, later versions with a hyphen.
option=--public-key
help=$("$program" verify key --help)
[[ $help == *--public_key* ]] && option=--public_key

verify() { # verify DIR
    "$program" verify key "$1" --signature "$1/model.sig" "$option" "$pem"
}

verify "$directory" || { echo "model_signing.sh: the public verifier refuses $directory" >&2; exit 1; }

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$directory/." "$copy"
file=$(find "$copy" -type f ! -name model.sig -size +0 | sort | head -1)
printf 'x' >>"$file"
if verify "$copy" >/dev/null 2>&1; then
    echo "model_signing.sh: the public verifier takes a changed ${file#"$copy"/}, so its verdict means nothing" >&2
    exit 1
fi
echo "model_signing.sh: accepted as signed, refused with a byte more"
