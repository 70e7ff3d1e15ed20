// Where a query finds its keys and values: rows of their own, or of a product they share with each other or with it.
struct Query { batch: u32, index: u32, head: u32, keys: u32 }

fn query(index: u32) -> Query {
    let heads = info[2];
    let row = index / heads;
    return Query(row / info[0], row % info[0], index % heads, info[1]);
}
fn query_at(asked: Query) -> u32 {
    return (asked.batch * info[0] + asked.index) * info[4] + info[5] + asked.head * HEAD_DIM;
}
fn output_at(asked: Query) -> u32 {
    return ((asked.batch * info[0] + asked.index) * info[2] + asked.head) * HEAD_DIM;
}
fn score_scale() -> f32 { return bitcast<f32>(info[3]); }

fn key_at(asked: Query, j: u32) -> u32 {
    return (asked.batch * info[1] + j) * info[6] + info[7] + asked.head * HEAD_DIM;
}
fn value_at(asked: Query, j: u32) -> u32 {
    return (asked.batch * info[1] + j) * info[8] + info[9] + asked.head * HEAD_DIM;
}
fn key(at: u32) -> f32 {
    if (FUSED == 1u) { return q[at]; }
    return k[at];
}
fn value(at: u32) -> f32 {
    if (FUSED == 1u) { return q[at]; }
    if (SHARED == 1u) { return k[at]; }
    return v[at];
}
// What the score becomes: the bias is added, and nothing is masked.
fn masked(asked: Query, j: u32, score: f32) -> f32 {
    var s = score;
    if (BIAS == 1u) {
        let row = select(0u, asked.index, info[10] > 1u);
        s += bias[(asked.batch * info[10] + row) * asked.keys + j];
    }
    if (DISTANCE == 1u) { s += distance[distance_at(j, asked.index, info[11]) * info[2] + asked.head]; }
    return s;
}
// Nothing joins: keys and values are all there.
fn join(asked: Query, lane: u32, newest: bool) {}
