#!/usr/bin/env python3
"""How Hugging Face transformers orders the gallery with the weights of a converted retrieval model: what the page must find.

    python expected_gallery.py MODEL_FOLDER OUT.json

As expected.py, for Blip2ForImageTextRetrieval: the cosines (ITC) of the suggested searches, of a few more and of some
captions with every scene, and how often a scene is found by its own caption.
"""
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import Blip2ForImageTextRetrieval

from expected import made_by, sha256, start

GALLERY = Path(__file__).resolve().parent / "gallery"
SEARCHES = ["a bee", "a cat", "a rocket", "a yellow thing", "a bird", "something on a green background", "A photo of a black dog.", "heart"]
CAPTION_OF_EVERY = 7  # whose order is written down; all of them count as searches for a scene
FIRST = 10
RERANKED = 5  # of the best by ITC are ordered anew by ITM, to see what that does


def share(hits):
    return round(float(hits.float().mean()), 4)


@torch.inference_mode()
def main(folder, out):
    index, model, processor = start(folder, Blip2ForImageTextRetrieval)
    scenes = json.loads((GALLERY / "index.json").read_text())
    images = [Image.open(GALLERY / scene["file"]).convert("RGB") for scene in scenes]
    captions = [scene["caption"] for scene in scenes]
    searches = list(dict.fromkeys([*index["ui"]["suggestions"], *SEARCHES, *captions[::CAPTION_OF_EVERY]]))
    texts = [*searches, *captions]

    def forward(images, texts, **how):
        return model(**processor(images=images, text=texts, padding=True, return_tensors="pt"), **how)

    cosines = forward(images, texts).logits_per_text
    order = cosines.argsort(dim=1, descending=True, stable=True)

    def matches(text, which):
        logits = forward([images[i] for i in which], [texts[text]] * len(which), use_image_text_matching_head=True).logits_per_image
        return logits.softmax(dim=-1)[:, 1]

    first = [order[text, :FIRST].tolist() for text in range(len(searches))]
    own, of = order[len(searches):], torch.arange(len(scenes))
    best = torch.stack([own[i, matches(len(searches) + i, own[i, :RERANKED].tolist()).argmax()] for i in of])
    record = {
        **made_by(__file__, folder),
        "gallery_sha256": sha256(GALLERY / "index.json"),
        "scenes": len(scenes),
        "found_by_own_caption": {
            "R@1": share(own[:, 0] == of),
            "R@5": share((own[:, :5] == of[:, None]).any(dim=1)),
            f"R@1, first {RERANKED} ordered by ITM": share(best == of),
        },
        "searches": [
            {
                "text": searches[text],
                "files": [scenes[i]["file"] for i in which],
                "cosines": [round(float(cosines[text, i]), 5) for i in which],
                "first_matches": round(float(matches(text, which[:1])), 5),
            }
            for text, which in enumerate(first)
        ],
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{out}: {len(searches)} searches, {record['found_by_own_caption']}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
