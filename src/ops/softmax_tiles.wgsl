// A workgroup makes one query of one head, or its part for one of SPLITS stretches of the keys. Keys come in tiles of as many as
// there are threads: each thread scores one, the tile joins the running softmax, then each thread gathers the values of its own
// place in the head; where there are threads for several heads' places, PARTS of them share the keys of a tile.
const PARTS: u32 = max(1u, WORKGROUP / HEAD_DIM);
const PLACES: u32 = (HEAD_DIM + WORKGROUP - 1u) / WORKGROUP;
const LOWEST: f32 = -3.4028234663852886e38;

var<workgroup> query_row: array<f32, HEAD_DIM>;
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;
var<workgroup> gathered: array<f32, WORKGROUP>;
var<workgroup> key_count: u32;

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    let index = workgroup_within(here);
    let asked = query(index / SPLITS);
    // What is read from a buffer is not uniform to WGSL, and a loop around a barrier has to be.
    if (lane == 0u) { key_count = asked.keys; }
    let keys = workgroupUniformLoad(&key_count);
    let stretch = (keys + SPLITS - 1u) / SPLITS;
    let begin = min(index % SPLITS * stretch, keys);
    let end = min(begin + stretch, keys);
    // The newest key is read by the last stretch alone.
    join(asked, lane, begin < end && end == keys);
    let from_q = query_at(asked);
    for (var d = lane; d < HEAD_DIM; d += WORKGROUP) { query_row[d] = q[from_q + d] * score_scale(); }
    workgroupBarrier();

    let part = select(0u, lane / HEAD_DIM, PARTS > 1u);
    let own = select(lane, lane % HEAD_DIM, PARTS > 1u);
    var highest = LOWEST;
    var total = 0.0;
    var sums: array<f32, PLACES>;
    for (var first = 0u; first < stretch; first += WORKGROUP) {
        let j = begin + first + lane;
        var score = LOWEST;
        if (j < end) {
            let from_k = key_at(asked, j);
            var product = 0.0;
            for (var d = 0u; d < HEAD_DIM; d++) { product += query_row[d] * key(from_k + d); }
            score = masked(asked, j, product);
        }
        let next = max(highest, max_of_all(here, score));
        // Only now has every thread passed the barriers behind the last tile's gathering.
        let weight = select(0.0, exp(score - next), j < end);
        weights[lane] = weight;
        places[lane] = value_at(asked, min(j, keys - 1u));
        workgroupBarrier();
        let rescale = exp(highest - next);
        total = total * rescale + weight;
        let count = min(WORKGROUP, max(end, begin + first) - (begin + first));
        for (var p = 0u; p < PLACES; p++) {
            let d = own + p * WORKGROUP;
            var sum = sums[p] * rescale;
            if (d < HEAD_DIM && part < PARTS) {
                for (var i = part; i < count; i += PARTS) { sum += weights[i] * value(places[i] + d); }
            }
            sums[p] = sum;
        }
        highest = next;
    }
    total = sum_of_all(here, vec4<f32>(total, 0.0, 0.0, 0.0)).x;
    if (PARTS > 1u) {
        gathered[lane] = sums[0];
        workgroupBarrier();
        for (var p = 1u; p < PARTS; p++) {
            if (lane < HEAD_DIM) { sums[0] += gathered[p * HEAD_DIM + lane]; }
        }
    }
    if (SPLITS == 1u) {
        let to = output_at(asked);
        for (var d = lane; d < HEAD_DIM; d += WORKGROUP) { y[to + d] = sums[d / WORKGROUP] / total; }
        return;
    }
    // Not yet divided: the stretches of a query are joined by combine.wgsl.
    let to = index * (HEAD_DIM + 2u);
    for (var d = lane; d < HEAD_DIM; d += WORKGROUP) { y[to + d] = sums[d / WORKGROUP]; }
    if (lane == 0u) {
        y[to + HEAD_DIM] = highest;
        y[to + HEAD_DIM + 1u] = total;
    }
}
