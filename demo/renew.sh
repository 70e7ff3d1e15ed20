#!/bin/sh
# Renews everything that depends on a demo checkpoint.
#
#   sh demo/renew.sh [HF_FOLDER [--eval EVAL.json] [--samples FOLDER]]
#                    [--retrieval HF_FOLDER [--retrieval-eval EVAL.json] [--gallery FOLDER]]
#
# HF_FOLDER         Blip2ForConditionalGeneration as transformers saves it
# --eval            its scores, as recipe/evaluate.py writes them     (a new checkpoint needs them)
# --samples         its samples, as recipe/make_samples.py writes them (a new checkpoint needs them)
# --retrieval       Blip2ForImageTextRetrieval over the same vision tower: what both have comes out as the same files
# --retrieval-eval  its scores, as recipe/train_retrieval.py writes them (a new checkpoint needs them)
# --gallery         scenes to search through, as recipe/make_gallery.py writes them
#
# PYTHON is a Python with transformers (tests/fixtures/setup_env.sh makes one).
#
# What it does: convert → model/ and retrieval/, transformers' words and orders for the converted weights → samples/expected.q8.json
# and gallery/expected.q8.json, then card.py.
set -eu
demo=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
captioner= scores= samples= retrieval= retrieval_scores= gallery=
while [ $# -gt 0 ]; do
  case "$1" in
    --eval) scores=${2:?} ;;
    --samples) samples=${2:?} ;;
    --retrieval) retrieval=$(cd "${2:?}" && pwd) ;;
    --retrieval-eval) retrieval_scores=${2:?} ;;
    --gallery) gallery=${2:?} ;;
    -*) usage ;;
    *) [ -z "$captioner" ] || usage; captioner=$(cd "$1" && pwd); shift; continue ;;
  esac
  shift 2
done
[ -n "$captioner$retrieval" ] || usage
[ -n "$captioner" ] || [ -z "$scores$samples" ] || usage
[ -n "$retrieval" ] || [ -z "$retrieval_scores$gallery" ] || usage

# Scores and samples belong to one checkpoint: with another they would be someone else's.
digest() { sha256sum "$1/model.safetensors" | cut -d ' ' -f 1; }
is_known() { [ "$(digest "$1")" = "$(cat "$demo/$2" 2>/dev/null)" ]; }
refuse() { echo "the checkpoint in $1 is not the one of demo/$2: give its $3 too" >&2; exit 1; }
new_cards=
if [ -n "$captioner" ] && ! is_known "$captioner" checkpoint.sha256; then
  { [ -n "$scores" ] && [ -n "$samples" ]; } || refuse "$captioner" checkpoint.sha256 "--eval and --samples"
  new_cards="$new_cards MODEL_CARD.md"
fi
if [ -n "$retrieval" ] && ! is_known "$retrieval" retrieval-checkpoint.sha256; then
  [ -n "$retrieval_scores" ] || refuse "$retrieval" retrieval-checkpoint.sha256 --retrieval-eval
  new_cards="$new_cards RETRIEVAL_CARD.md"
fi

# convert HF_FOLDER NAME UI.json SOURCE
convert() {
  rm -rf "$demo/$2.new"
  (cd "$demo/.." && npm run --silent convert -- "$1" "$demo/$2.new" --quant q8 --ui "$demo/$3" \
    --source "$4" --licence "MIT OR Apache-2.0; see the model card for what it learned from")
  rm -rf "${demo:?}/$2"
  mv "$demo/$2.new" "$demo/$2"
}

# pictures FROM TO LIST: a folder of scenes and the list of them
pictures() {
  rm -rf "${demo:?}/$2"
  mkdir "$demo/$2"
  cp "$1"/*.png "$1/$3" "$demo/$2/"
}

if [ -n "$captioner" ]; then
  if [ -n "$scores" ]; then cp "$scores" "$demo/eval.json"; fi
  if [ -n "$samples" ]; then pictures "$samples" samples expected.json; fi
  convert "$captioner" model ui.json "blip2-web demo captioner, trained from scratch (demo/MODEL_CARD.md)"
  "$python" "$demo/expected.py" "$demo/model" "$demo/samples/expected.q8.json"
fi
if [ -n "$retrieval" ]; then
  if [ -n "$retrieval_scores" ]; then cp "$retrieval_scores" "$demo/retrieval-eval.json"; fi
  if [ -n "$gallery" ]; then pictures "$gallery" gallery index.json; fi
  convert "$retrieval" retrieval retrieval-ui.json "blip2-web demo retrieval model, trained from scratch (demo/RETRIEVAL_CARD.md)"
  "$python" "$demo/expected_gallery.py" "$demo/retrieval" "$demo/gallery/expected.q8.json"
fi
"$python" "$demo/card.py"
if [ -n "$captioner" ]; then digest "$captioner" >"$demo/checkpoint.sha256"; fi
if [ -n "$retrieval" ]; then digest "$retrieval" >"$demo/retrieval-checkpoint.sha256"; fi
for card in $new_cards; do
  echo "a new checkpoint: read $card outside its figures (history, weaknesses, data) and say there what is true of it now"
done
