#!/usr/bin/env python3
"""What Hugging Face transformers says with the weights of a converted model folder: the words that the page must show.

    python expected.py MODEL_FOLDER OUT.json

Reads the folder by its index (model.safetensors.index.json), dequantizes every tensor to float32, builds
Blip2ForConditionalGeneration from the folder's config.json with those weights, and lets it caption the sample scenes
and answer their questions and the suggested ones (greedy, Hugging Face's defaults). The Python environment is that of
tests/fixtures/setup_env.sh.
"""
import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import PIL
import safetensors
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file
from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

INDEX = "model.safetensors.index.json"
SAMPLES = Path(__file__).resolve().parent / "samples"
BLOCK = 32  # weights that share a scale
MAX_NEW_TOKENS = 30  # room for every caption that data.py can make of two things


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_parts(folder, index):
    """{key in a shard: array}; every file of the index must have its length and its hash."""
    for name, facts in index["files"].items():
        path = folder / name
        if path.stat().st_size != facts["bytes"] or sha256(path) != facts["sha256"]:
            sys.exit(f"{path} is not the file that the index names")
    parts = {}
    for name in sorted({part["file"] for tensor in index["tensors"].values() for part in tensor["parts"]}):
        parts.update(load_file(folder / name))
    return parts


def unpack(words, quant):
    """u32 [rows, words] → signed integers [rows, whole blocks of columns] as float32."""
    if quant == "q8":
        return words.view(np.int8).astype(np.float32)
    nibbles = words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15
    return nibbles.reshape(words.shape[0], -1).astype(np.float32) - 8


def dequantize(parts, tensor, name):
    """One tensor of the index in the checkpoint's shape, float32."""
    shape, quant = tensor["shape"], tensor["quant"]
    columns = int(np.prod(shape[1:], dtype=np.int64))
    rows = []
    for part in tensor["parts"]:
        values = np.ascontiguousarray(parts[part["key"]])
        if quant in ("q8", "q4"):
            scales = parts[scales_key(part["key"])].astype(np.float32)
            values = unpack(values, quant) * np.repeat(scales, BLOCK, axis=1)
            if np.any(values[:, columns:]):
                sys.exit(f"{name}: the padding of a row is not zero")
            values = values[:, :columns]
        rows.append(values.astype(np.float32).reshape(-1))
    return torch.from_numpy(np.concatenate(rows).reshape(shape))


def scales_key(key):
    """X.weight → X.scales, X.weight.rows.3 → X.scales.rows.3"""
    head, _, tail = key.rpartition(".weight")
    return f"{head}.scales{tail}"


def load(folder, index, architecture):
    parts = read_parts(folder, index)
    weights = {name: dequantize(parts, tensor, name) for name, tensor in index["tensors"].items()}
    model = architecture(Blip2Config.from_pretrained(folder, attn_implementation="eager")).float().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    model.tie_weights()
    if unexpected or set(missing) - {"language_model.lm_head.weight"}:  # OPT's head is the embedding
        sys.exit(f"missing {missing}, unexpected {unexpected}")
    return model


def start(folder, architecture):
    """Index, model and processor of a model folder."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    index = json.loads((folder / INDEX).read_text())
    return index, load(folder, index, architecture), Blip2Processor.from_pretrained(folder, use_fast=False)


def made_by(script, folder):
    """The head of a record: by what it was made, and of which model folder."""
    versions = {module.__name__: module.__version__ for module in (transformers, torch, tokenizers, safetensors)}
    versions |= {"pillow": PIL.__version__, "numpy": np.__version__}
    return {"made_by": f"demo/{Path(script).name}", "versions": versions, "index_sha256": sha256(folder / INDEX)}


def answer(model, processor, image, prompt):
    """The new tokens, their text, and by how much the closest choice was decided."""
    inputs = processor(images=image, text=prompt, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, return_dict_in_generate=True, output_scores=True)
    new = out.sequences[0, inputs["input_ids"].shape[1]:]
    margin = min(float(best - second) for best, second in (scores[0].topk(2).values for scores in out.scores))
    return {"prompt": prompt, "text": processor.decode(new, skip_special_tokens=True).strip(), "ids": new.tolist(), "margin": round(margin, 4)}


def main(folder, out):
    index, model, processor = start(folder, Blip2ForConditionalGeneration)
    ui = index["ui"]
    samples = []
    for row in json.loads((SAMPLES / "expected.json").read_text()):
        image = Image.open(SAMPLES / row["file"]).convert("RGB")
        questions = list(dict.fromkeys([qa["question"] for qa in row["qa"]] + ui["suggestions"]))
        samples.append({
            "file": row["file"],
            "caption": answer(model, processor, image, ui["caption_prompt"]),
            "questions": [
                {"question": question, **answer(model, processor, image, ui["question_template"].replace("{question}", question))}
                for question in questions
            ],
        })
    answers = [a for sample in samples for a in [sample["caption"], *sample["questions"]]]
    record = {
        **made_by(__file__, folder),
        "max_new_tokens": MAX_NEW_TOKENS,
        "smallest_margin": min(a["margin"] for a in answers),
        "samples": samples,
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{out}: {len(samples)} captions, {len(answers) - len(samples)} answers, smallest margin {record['smallest_margin']}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
