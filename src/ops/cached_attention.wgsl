// Keys and values in a decoder's cache, reached through its state (ops::state has the layout). info: heads, width, scale,
// queries of a row, rows of the state for each row of queries, reach of the biases by distance, floats in a row of q and the
// first of them; with JOINS the first ones of the newest key and value in the same row.
struct Query { batch: u32, index: u32, head: u32, keys: u32 }

fn rows() -> u32 { return u32(state[1]); }
fn capacity() -> u32 { return u32(state[2]); }
fn query(index: u32) -> Query {
    let heads = info[0];
    let row = index / heads;
    let queries = info[3];
    return Query(row / queries * info[4], row % queries, index % heads, u32(state[0]) + queries);
}
fn query_at(asked: Query) -> u32 {
    return (asked.batch / info[4] * info[3] + asked.index) * info[6] + info[7] + asked.head * HEAD_DIM;
}
fn output_at(asked: Query) -> u32 {
    return (asked.batch / info[4] * info[3] + asked.index) * info[1] + asked.head * HEAD_DIM;
}
fn score_scale() -> f32 { return bitcast<f32>(info[2]); }

fn key_at(asked: Query, j: u32) -> u32 {
    let row = u32(state[4u + 3u * rows() + (rows() + asked.batch) * capacity() + j]);
    return (row * capacity() + j) * info[1] + asked.head * HEAD_DIM;
}
fn value_at(asked: Query, j: u32) -> u32 { return key_at(asked, j); }
fn key(at: u32) -> f32 { return unpacked(k[at / IN_WORD], at); }
fn value(at: u32) -> f32 { return unpacked(v[at / IN_WORD], at); }
fn masked(asked: Query, j: u32, score: f32) -> f32 {
    let attended = state[4u + 3u * rows() + asked.batch * capacity() + j] != 0;
    let position = u32(state[0]) + asked.index;
    var s = score;
    if (DISTANCE == 1u) { s += distance[distance_at(j, position, info[5]) * info[0] + asked.head]; }
    return select(-3.4028234663852886e38, s, attended && j <= position);
}
// JOINS: the newest key and value of a row and head go into its cache through the workgroup that reads them; nobody else does.
fn join(asked: Query, lane: u32, newest: bool) {
    if (JOINS == 1u && newest) {
        let row = asked.batch / info[4] * info[6] + asked.head * HEAD_DIM;
        let to = (asked.batch * capacity() + u32(state[0])) * info[1] + asked.head * HEAD_DIM;
        for (var d = lane * IN_WORD; d < HEAD_DIM; d += WORKGROUP * IN_WORD) {
            let from_k = row + info[8] + d;
            let from_v = row + info[9] + d;
            k[(to + d) / IN_WORD] = packed(q[from_k], q[from_k + IN_WORD - 1u]);
            v[(to + d) / IN_WORD] = packed(q[from_v], q[from_v + IN_WORD - 1u]);
        }
    }
    storageBarrier();
}
