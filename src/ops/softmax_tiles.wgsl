// A workgroup makes one query of one head. Keys come in tiles of 64: each thread scores one, the tile joins the running
// softmax, then each thread gathers the values of its own places in the head.
const PLACES: u32 = (HEAD_DIM + 63u) / 64u;

var<workgroup> query_row: array<f32, HEAD_DIM>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> places: array<u32, 64>;
var<workgroup> reduced: array<f32, 64>;
var<workgroup> key_count: u32;

fn max_of_all(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    reduced[lane] = value;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { reduced[lane] = max(reduced[lane], reduced[lane + width]); }
        workgroupBarrier();
    }
    return reduced[0];
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup_index(group, groups);
    let inside = index < workgroup_count();
    let asked = query(min(index, workgroup_count() - 1u));
    join(asked, lane);
    let from_q = query_at(asked);
    for (var d = lane; d < HEAD_DIM; d += 64u) { query_row[d] = q[from_q + d] * score_scale(); }
    workgroupBarrier();

    var highest = -3.4028234663852886e38;
    var total = 0.0;
    var sums: array<f32, PLACES>;
    // What is read from a buffer is not uniform to WGSL, and a loop around a barrier has to be.
    if (lane == 0u) { key_count = asked.keys; }
    let keys = workgroupUniformLoad(&key_count);
    for (var first = 0u; first < keys; first += 64u) {
        let j = first + lane;
        var score = -3.4028234663852886e38;
        if (j < keys) {
            let from_k = key_at(asked, j);
            var product = 0.0;
            for (var d = 0u; d < HEAD_DIM; d++) { product += query_row[d] * key(from_k + d); }
            score = masked(asked, j, product);
        }
        let next = max(highest, max_of_all(lane, score));
        // Only now has every thread passed the barriers behind the last tile's gathering.
        weights[lane] = select(0.0, exp(score - next), j < keys);
        places[lane] = value_at(asked, min(j, keys - 1u));
        workgroupBarrier();
        let rescale = exp(highest - next);
        for (var p = 0u; p < PLACES; p++) { sums[p] *= rescale; }
        total *= rescale;
        for (var i = 0u; i < min(64u, keys - first); i++) {
            total += weights[i];
            for (var p = 0u; p < PLACES; p++) {
                let d = lane + p * 64u;
                if (d < HEAD_DIM) { sums[p] += weights[i] * value(places[i] + d); }
            }
        }
        highest = next;
    }
    if (!inside) { return; }
    let to = output_at(asked);
    for (var p = 0u; p < PLACES; p++) {
        let d = lane + p * 64u;
        if (d < HEAD_DIM) { y[to + d] = sums[p] / total; }
    }
}
