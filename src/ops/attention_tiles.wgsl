// A workgroup makes 16 queries of one head. Their rows lie in its memory, and keys, then values, 16 at a time: each is read from
// the device once for all 16 queries. A thread scores one key for one query, then gathers for its own places of the 16 rows.
const QUERIES: u32 = 16u;
const KEYS: u32 = 16u;
const PLACES: u32 = (QUERIES * HEAD_DIM + WORKGROUP - 1u) / WORKGROUP;
const LOWEST: f32 = -3.4028234663852886e38;

var<workgroup> query_rows: array<f32, QUERIES * HEAD_DIM>;
var<workgroup> rows: array<f32, KEYS * HEAD_DIM>;
var<workgroup> weights: array<f32, QUERIES * KEYS>;
var<workgroup> highest: array<f32, QUERIES>;
var<workgroup> totals: array<f32, QUERIES>;
var<workgroup> rescale: array<f32, QUERIES>;
var<workgroup> key_count: u32;

// One query's running softmax takes in its scores of this tile; they become weights.
fn join_scores(asker: u32, count: u32) {
    let at = asker * KEYS;
    var next = highest[asker];
    for (var j = 0u; j < count; j++) { next = max(next, weights[at + j]); }
    let factor = exp(highest[asker] - next);
    var total = totals[asker] * factor;
    for (var j = 0u; j < KEYS; j++) {
        let weight = select(0.0, exp(weights[at + j] - next), j < count);
        weights[at + j] = weight;
        total += weight;
    }
    highest[asker] = next;
    totals[asker] = total;
    rescale[asker] = factor;
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    let queries = info[0];
    let heads = info[2];
    let tiles = (queries + QUERIES - 1u) / QUERIES;
    let index = workgroup_within(here);
    let first_query = (index % tiles) * QUERIES;
    let head = (index / tiles) % heads;
    let batch = index / tiles / heads;
    // Queries behind the last one do its work again and are not stored.
    let last = queries - 1u;
    // What is read from a buffer is not uniform to WGSL, and a loop around a barrier has to be.
    if (lane == 0u) { key_count = info[1]; }
    let keys = workgroupUniformLoad(&key_count);
    for (var i = lane; i < QUERIES * HEAD_DIM; i += WORKGROUP) {
        let asked = Query(batch, min(first_query + i / HEAD_DIM, last), head, keys);
        query_rows[i] = q[query_at(asked) + i % HEAD_DIM] * score_scale();
    }
    if (lane < QUERIES) {
        highest[lane] = LOWEST;
        totals[lane] = 0.0;
    }
    let own = Query(batch, min(first_query + lane / KEYS, last), head, keys);
    var sums: array<f32, PLACES>;
    for (var first = 0u; first < keys; first += KEYS) {
        workgroupBarrier();
        for (var i = lane; i < KEYS * HEAD_DIM; i += WORKGROUP) {
            rows[i] = key(key_at(own, min(first + i / HEAD_DIM, keys - 1u)) + i % HEAD_DIM);
        }
        workgroupBarrier();
        let j = lane % KEYS;
        var product = 0.0;
        for (var d = 0u; d < HEAD_DIM; d++) { product += query_rows[lane / KEYS * HEAD_DIM + d] * rows[j * HEAD_DIM + d]; }
        weights[lane] = masked(own, min(first + j, keys - 1u), product);
        workgroupBarrier();
        if (lane < QUERIES) { join_scores(lane, min(KEYS, keys - first)); }
        for (var i = lane; i < KEYS * HEAD_DIM; i += WORKGROUP) {
            rows[i] = value(value_at(own, min(first + i / HEAD_DIM, keys - 1u)) + i % HEAD_DIM);
        }
        workgroupBarrier();
        for (var p = 0u; p < PLACES; p++) {
            let place = lane + p * WORKGROUP;
            if (place < QUERIES * HEAD_DIM) {
                let asker = place / HEAD_DIM;
                var sum = sums[p] * rescale[asker];
                for (var i = 0u; i < KEYS; i++) { sum += weights[asker * KEYS + i] * rows[i * HEAD_DIM + place % HEAD_DIM]; }
                sums[p] = sum;
            }
        }
    }
    for (var p = 0u; p < PLACES; p++) {
        let place = lane + p * WORKGROUP;
        let asker = place / HEAD_DIM;
        if (asker < QUERIES && first_query + asker <= last) {
            y[output_at(Query(batch, first_query + asker, head, keys)) + place % HEAD_DIM] = sums[p] / totals[asker];
        }
    }
}
