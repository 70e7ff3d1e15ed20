"""Scenes to search through, for gallery/: make_gallery.py CACHE OUT [--count 72] [--seed 4242]

Only drawings whose licence lets them be shown, on plain backgrounds, no caption twice: held-out Openclipart drawings, one in a scene, and emoji that
training has seen, several kinds together only in pairs that training leaves out. No model has a say: a scene is taken when it shows a thing that is not in
the gallery yet, and once all that can be drawn are in, as it comes.
"""
import argparse, json, os, random, shutil
from PIL import Image
from data import FREE, World
KINDS = {'held': .2, 'single': .16, 'h': .2, 'v': .14, 'count': .2, 'group': .1}
SKIP = 'butterflys',     # a plural that the recipe forms wrongly and the models have learned; the captions here are read by people
FAINT = 'shapes/stars/'  # thin lines that are hardly seen at this size


def draw(w, R):
    kind = R.choices(list(KINDS), list(KINDS.values()))[0]; held = kind == 'held'
    sc = w.scene(R, 'held' if held else 'train', 'single' if held else kind, aug=False, test_pairs=kind in ('h', 'v', 'group'), bg='plain')
    used = [w.M[e['sprite']] for e in sc['ent']]
    free = {'oc'} if held else FREE.keys() - {'oc', 'mono'}
    return (held, sc) if all(m['style'] in free and FAINT not in m['path'] for m in used) else None


def main():
    ap = argparse.ArgumentParser(); ap.add_argument('cache'); ap.add_argument('out'); ap.add_argument('--count', type=int, default=72); ap.add_argument('--seed', type=int, default=4242); A = ap.parse_args()
    w = World(A.cache); R = random.Random(A.seed); rows, said, shown = [], set(), set(); missed = 0
    shutil.rmtree(A.out, ignore_errors=True); os.makedirs(A.out)
    while len(rows) < A.count:
        d = draw(w, R)
        if not d: continue
        held, sc = d; r = w.row(sc, R, None, []); new = set(r['nouns']) - shown
        if r['caption'] in said or any(x in r['caption'] for x in SKIP): continue
        if not new and missed < 200: missed += 1; continue
        if new: missed = 0
        said.add(r['caption']); shown |= new
        f = f"{len(rows) + 1:02d}-{'-'.join(n.replace(' ', '_') for n in r['nouns'])}.png"; Image.fromarray(sc['im']).save(f'{A.out}/{f}', optimize=True)
        rows.append(dict(file=f, caption=r['caption'], drawings_seen_in_training=not held, styles=r['styles'], sources=r['sources']))
    json.dump(rows, open(A.out + '/index.json', 'w'), indent=1)
    print(len(rows), 'scenes,', len(shown), 'of', len(w.on), 'things,', sum(not r['drawings_seen_in_training'] for r in rows), 'of held-out drawings')


if __name__ == '__main__': main()
