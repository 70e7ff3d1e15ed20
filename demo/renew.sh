#!/bin/sh
# Renews everything that depends on the demo checkpoint.
#
#   sh demo/renew.sh HF_FOLDER [--eval EVAL.json] [--samples FOLDER]
#
# HF_FOLDER  Blip2ForConditionalGeneration as transformers saves it
# --eval     its scores, as recipe/evaluate.py writes them     (a new checkpoint needs them)
# --samples  its samples, as recipe/make_samples.py writes them (a new checkpoint needs them)
#
# PYTHON is a Python with transformers (tests/fixtures/setup_env.sh makes one). What it does: convert → model/,
# transformers' words for the converted weights → samples/expected.q8.json, then card.py.
set -eu
demo=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$demo")
python=${PYTHON:-python3}
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
hf=$(cd "$1" && pwd); shift
scores= samples=
while [ $# -gt 0 ]; do
  case "$1" in
    --eval) scores=${2:?} ;;
    --samples) samples=${2:?} ;;
    *) usage ;;
  esac
  shift 2
done

# Scores and samples belong to one checkpoint: with another they would be someone else's.
checkpoint=$(sha256sum "$hf/model.safetensors" | cut -d ' ' -f 1)
known=$(cat "$demo/checkpoint.sha256" 2>/dev/null || true)
if [ "$checkpoint" != "$known" ] && { [ -z "$scores" ] || [ -z "$samples" ]; }; then
  echo "this checkpoint ($checkpoint) is not the one of demo/checkpoint.sha256: give its --eval and --samples too" >&2
  exit 1
fi
if [ -n "$scores" ]; then cp "$scores" "$demo/eval.json"; fi
if [ -n "$samples" ]; then
  rm -rf "$demo/samples"
  mkdir "$demo/samples"
  cp "$samples"/*.png "$samples/expected.json" "$demo/samples/"
fi

new=$demo/model.new
rm -rf "$new"
cd "$root"
npm run --silent convert -- "$hf" "$new" --quant q8 --ui "$demo/ui.json" \
  --source "blip2-web demo captioner, trained from scratch (demo/MODEL_CARD.md)" --licence "MIT OR Apache-2.0; see the model card for what it learned from"
rm -rf "$demo/model"
mv "$new" "$demo/model"
"$python" "$demo/expected.py" "$demo/model" "$demo/samples/expected.q8.json"
"$python" "$demo/card.py"
echo "$checkpoint" >"$demo/checkpoint.sha256"
if [ "$checkpoint" != "$known" ]; then
  echo "a new checkpoint: read MODEL_CARD.md outside its figures (history, weaknesses, data) and say there what is true of it now"
fi
