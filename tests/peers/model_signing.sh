#!/usr/bin/env bash
# The public verifier of OpenSSF Model Signing accepts an artifact that we signed, and refuses it once a byte differs.
#
#   tests/peers/model_signing.sh TEST_ARTIFACT      the test program that makes and signs a sample
#
# Exit 77 when the public program model_signing is absent.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${1:?usage: tests/peers/model_signing.sh TEST_ARTIFACT}" write "$work"
directory=$work/model pem=$work/key.pub
program=model_signing
if ! command -v "$program" >/dev/null; then
    echo "SKIP: $program is absent"
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

copy=$work/copy
mkdir "$copy"
cp -r "$directory/." "$copy"
file=$(find "$copy" -type f ! -name model.sig -size +0 | sort | head -1)
printf 'x' >>"$file"
if verify "$copy" >/dev/null 2>&1; then
    echo "model_signing.sh: the public verifier takes a changed ${file#"$copy"/}, so its verdict means nothing" >&2
    exit 1
fi
echo "model_signing.sh: accepted as signed, refused with a byte more"
