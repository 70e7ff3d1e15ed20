#!/usr/bin/env python3
"""Writes what can be derived: the NOTICE.md of samples/ and gallery/, and the figures between the marks of both model cards.

    python card.py [--check]        --check writes nothing and fails where something is stale

It reads, of the captioner, the index in model/, eval.json, samples/expected.json and samples/expected.q8.json; of the
retrieval model the index in retrieval/, retrieval-eval.json, gallery/index.json and gallery/expected.q8.json.
"""
import collections
import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CARD, SAMPLES = HERE / "MODEL_CARD.md", HERE / "samples"
RETRIEVAL_CARD, GALLERY = HERE / "RETRIEVAL_CARD.md", HERE / "gallery"
INDEX = "model.safetensors.index.json"
BEGIN, END = "<!-- figures: written by card.py -->", "<!-- end of figures -->"

SETS = {
    "a_compositions": "seen drawings, unseen pairs",
    "b_twemoji": "Twemoji, unseen style",
    "c_openmoji": "OpenMoji, unseen style",
    "d_heldout_clipart": "held-out clip-art, one thing",
}
QUESTIONS = {
    "what": "what is this?", "exist": "is there a …?", "count": "how many …?", "bg": "background colour", "color": "colour of a thing",
    "yncolor": "is it (colour)?", "kind": "what kind of thing?", "ynkind": "is this a (kind)?", "where": "where is it?",
    "side": "what is on the left?", "rel": "where is A relative to B?", "ynrel": "is A left of B?", "all": "all questions",
}
RETRIEVAL_SETS = {
    "unseen pairs, seen drawings": "seen drawings, unseen pairs",
    "unseen drawings (Twemoji)": "Twemoji, unseen style",
}
# Its scores: part, name in it, words for it.
RETRIEVAL_ROWS = [
    ("text_to_image", "R@1", "a scene found by its caption: first"),
    ("text_to_image", "R@5", "among the first 5"),
    ("text_to_image", "R@10", "among the first 10"),
    ("text_to_image", "top picture is true of the text", "the first is true of the caption"),
    ("text_to_image", "R@1, first five reranked by ITM", "first, when ITM orders the best 5 anew"),
    ("image_to_text", "R@1", "a caption found by its scene: first"),
    ("image_to_text", "R@5", "among the first 5"),
    ("itm", "matched accepted", "ITM: the true caption accepted"),
    ("itm", "hardest false picture refused", "ITM: the most similar false scene refused"),
    ("itm", "balanced accuracy, hardest picture", "ITM: mean of these two"),
]
CHANGES = {
    "noun": "another thing", "extra": "one thing more", "color": "another colour", "count": "another number",
    "background": "another background", "relation": "places exchanged",
}
# The styles that samples and the gallery may be made of: drawn by, licence, where from.
DRAWINGS = {
    "oc": ("Openclipart", "public domain", "openclipart.org"),
    "noto": ("Noto Emoji, © Google", "Apache-2.0", "github.com/googlefonts/noto-emoji"),
    "notov1": ("Noto Emoji (first version), © Google", "Apache-2.0", "github.com/googlefonts/noto-emoji"),
    "fxemoji": ("FxEmojis, © Mozilla", "Apache-2.0", "github.com/mozilla/fxemoji"),
    "fluent3d": ("Fluent Emoji 3D, © Microsoft Corporation", "MIT", "github.com/microsoft/fluentui-emoji"),
    "fluent-flat": ("Fluent Emoji flat, © Microsoft Corporation", "MIT", "github.com/microsoft/fluentui-emoji"),
    "fluent-modern": ("Fluent Emoji modern, © Microsoft Corporation", "MIT", "github.com/microsoft/fluentui-emoji"),
}
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
the following conditions: The above copyright notice and this permission notice shall be included in all copies or substantial portions
of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read(path):
    return json.loads(path.read_text())


def percent(share):
    return f"{100 * share:.0f} %"


def notice(samples):
    lines = [
        "# Whose drawings these are", "",
        "The scenes were composed for this project of the drawings below, scaled and put on plain backgrounds.", "",
        "| scene | drawings | licence |", "|---|---|---|",
    ]
    for row in samples:
        for style in row["styles"]:
            by, licence, _ = DRAWINGS[style]
            names = collections.Counter(source.split(":", 1)[1] for source in row["sources"] if source.startswith(style + ":"))
            lines.append(f"| {row['file']} | {by}: {', '.join(f'`{name}`' for name in names)} | {licence} |")
    used = sorted({DRAWINGS[style] for row in samples for style in row["styles"]})
    lines += ["", "Sources:", "", *(f"- {by}: {where} ({licence})" for by, licence, where in used), ""]
    licences = {licence for _, licence, _ in used}
    if "Apache-2.0" in licences:
        lines += ["The Apache License 2.0 is in `LICENSE-APACHE` at the root of the repository.", ""]
    if "MIT" in licences:
        lines += ["MIT License, for the drawings © Microsoft Corporation:", "", *(f"> {line}" for line in MIT.splitlines()), ""]
    return "\n".join(lines)


def evaluation(scores):
    """The table of eval.json. A share in brackets is what always giving the commonest answer would get."""
    sets = {name: scores[name] for name in SETS if name in scores}
    lines = ["| | " + " | ".join(SETS[name] for name in sets) + " |", "|---" * (len(sets) + 1) + "|"]
    row = lambda label, cell: lines.append(f"| {label} | " + " | ".join(cell(s) for s in sets.values()) + " |")
    row("pictures", lambda s: str(s["images"]))
    row("right noun, one kind of thing", lambda s: percent(s["noun_top1_one_kind"]) if s["n_one_kind"] else "–")
    row("nouns found, several kinds", lambda s: percent(s["noun_recall_several"]) if s["n_several"] else "–")
    row("caption exactly right", lambda s: percent(s["caption_exact"]))
    for kind, label in QUESTIONS.items():
        cell = lambda s: f"{percent(s['types'][kind]['model'])} ({100 * s['types'][kind]['majority']:.0f})" if kind in s["types"] else "–"
        row(label, cell)
    lines += ["", "In brackets: always giving the commonest answer." + (f" {scores['note']}" if "note" in scores else "")]
    return lines


def sizes(index):
    layout = collections.Counter()
    for tensor in index["tensors"].values():
        count = 1
        for size in tensor["shape"]:
            count *= size
        layout[tensor["quant"]] += count
    files = index["files"].values()
    stages = collections.Counter()
    for file in files:
        if file.get("stage"):
            stages[file["stage"]] += file["bytes"]
    kept = ", ".join(f"{count:,} as {quant}" for quant, count in layout.most_common())
    staged = ", ".join(f"{stage} {size / 1e6:.2f} MB" for stage, size in stages.items())
    return [
        f"- Parameters: {sum(layout.values()):,} ({kept}).",
        f"- Size to download: {sum(file['bytes'] for file in files) / 1e6:.2f} MB in {len(files)} files ({staged}; the rest is configuration and tokenizer).",
    ]


def shared(index, other):
    """What a browser that has the other model does not load again."""
    both = [file["bytes"] for name, file in index["files"].items() if other["files"].get(name) == file]
    return [f"- The same in the captioner's folder, by name and content: {sum(both) / 1e6:.2f} MB in {len(both)} files."]


def on_samples(samples, said):
    """How the shipped (quantized) model does on the samples, against the truth and against the f16 checkpoint."""
    by_file = {row["file"]: row for row in said["samples"]}
    captions = answers = same = total = asked = 0
    for row in samples:
        model = by_file[row["file"]]
        answered = {q["question"]: q["text"] for q in model["questions"]}
        captions += model["caption"]["text"] == row["caption"]
        answers += sum(answered[qa["question"]] == qa["answer"] for qa in row["qa"])
        asked += len(row["qa"])
        pairs = [(model["caption"]["text"], row["model_caption"])] + [(answered[qa["question"]], qa["model_answer"]) for qa in row["qa"]]
        same += sum(a == b for a, b in pairs)
        total += len(pairs)
    return [
        f"- The shipped folder on the {len(samples)} samples: {captions} captions exactly right, {answers} of {asked} answers right; "
        f"{same} of {total} outputs are word for word those of the checkpoint before quantization.",
    ]


def chosen(scores):
    s = scores.get("samples")
    if not s:
        return []
    return [
        f"- The samples are picked successes: {s['kept']} of {s['candidates']} candidates. Of all candidates {s['captions_exactly_right']} captions "
        f"were exactly right, and {s['answers_right']} of {s['questions']} answers.",
    ]


def retrieval_evaluation(scores):
    """The tables of retrieval-eval.json."""
    exact = lambda share: f"{100 * share:.1f} %"
    sets = {name: scores[name] for name in RETRIEVAL_SETS if name in scores}
    lines = ["| | " + " | ".join(RETRIEVAL_SETS[name] for name in sets) + " |", "|---" * (len(sets) + 1) + "|"]
    row = lambda label, cell: lines.append(f"| {label} | " + " | ".join(cell(s) for s in sets.values()) + " |")
    row("scenes and captions", lambda s: str(s["text_to_image"]["n"]))
    for part, name, label in RETRIEVAL_ROWS:
        row(label, lambda s: exact(s[part][name]))
    for kind, label in CHANGES.items():
        row(f"ITM: a caption with {label} refused", lambda s: exact(s["itm"]["refused by type of change"][kind]))
    row("ITM: mean of the true caption accepted and these refused", lambda s: exact(s["itm"]["balanced accuracy, one change"]))
    for name, found in sets.items():
        short = {kind: figures for kind, figures in found.get("short_queries", {}).items() if isinstance(figures, dict)}
        if short:
            what = f"Short searches ({RETRIEVAL_SETS[name]}), {found['short_queries']['pictures']} scenes; {found['short_queries']['measure']}:"
            lines += ["", what, "", "| | searches | precision | by chance | the first is right |", "|---|---|---|---|---|"]
            for kind, f in short.items():
                lines.append(f"| {kind} | {f['queries']} | {exact(f['precision@10'])} | {exact(f['chance'])} | {exact(f['top1'])} |")
    return lines


def on_gallery(scenes, found):
    unseen = sum(not scene["drawings_seen_in_training"] for scene in scenes)
    recall = "; ".join(f"{name} {100 * value:.1f} %" for name, value in found["found_by_own_caption"].items())
    return [
        f"- The shipped folder on the {len(scenes)} scenes of the gallery ({unseen} of them show a drawing that was held out of training), "
        f"each searched by its own caption: {recall}.",
    ]


def made_with(found, folder, record):
    """The index of a model folder, if the record was made with it."""
    index = HERE / folder / INDEX
    if found["index_sha256"] != hashlib.sha256(index.read_bytes()).hexdigest():
        sys.exit(f"{record} was made with another model folder: run renew.sh")
    return read(index)


def figures():
    scores, samples, said = read(HERE / "eval.json"), read(SAMPLES / "expected.json"), read(SAMPLES / "expected.q8.json")
    index = made_with(said, "model", "samples/expected.q8.json")
    lines = [*sizes(index), *on_samples(samples, said), *chosen(scores), "", "Held-out scores of the checkpoint before quantization (`eval.json`):", ""]
    return "\n".join([*lines, *evaluation(scores)])


def retrieval_figures():
    scores, scenes, found = read(HERE / "retrieval-eval.json"), read(GALLERY / "index.json"), read(GALLERY / "expected.q8.json")
    index = made_with(found, "retrieval", "gallery/expected.q8.json")
    if found["gallery_sha256"] != hashlib.sha256((GALLERY / "index.json").read_bytes()).hexdigest():
        sys.exit("gallery/expected.q8.json was made with other scenes: run renew.sh")
    lines = [*sizes(index), *shared(index, read(HERE / "model" / INDEX)), *on_gallery(scenes, found), f"- Training: {scores['training']}."]
    return "\n".join([*lines, "", "Held-out scores of the checkpoint before quantization (`retrieval-eval.json`):", "", *retrieval_evaluation(scores)])


def card(path, block):
    text = path.read_text()
    head, _, rest = text.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        sys.exit(f"{path} has lost the marks around its figures")
    return f"{head}{BEGIN}\n{block}\n{END}{tail}"


def main(check):
    made = {
        SAMPLES / "NOTICE.md": notice(read(SAMPLES / "expected.json")),
        CARD: card(CARD, figures()),
        GALLERY / "NOTICE.md": notice(read(GALLERY / "index.json")),
        RETRIEVAL_CARD: card(RETRIEVAL_CARD, retrieval_figures()),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        sys.exit("stale, run renew.sh: " + ", ".join(path.name for path in stale))
    for path in stale:
        path.write_text(made[path])
        print(f"written: {path.relative_to(HERE)}")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    main(check=bool(sys.argv[1:]))
