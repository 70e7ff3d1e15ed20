// A thread makes ROWS x 4 outputs by itself, without a barrier: for software adapters, where one costs microseconds.

// Four products of one vector of x with four rows of W.
fn dots(v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let m = info[0];
    let k = info[1];
    let n = info[2];
    let first = info[3];
    let rows = info[4];
    let row_words = info[5];
    let tiles = (rows + 3u) / 4u;
    let tile = thread_index(here);
    let out = (tile % tiles) * 4u;
    let row = (tile / tiles) * ROWS;
    if (row >= m) { return; }
    // Rows and outputs past the edge repeat the last one and are not stored.
    let o = rows_from(out, rows);
    let r = rows_from(row, m);
    let s = rows_from(row + 4u, m);
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var a4 = vec4<f32>(0.0);
    var a5 = vec4<f32>(0.0);
    var a6 = vec4<f32>(0.0);
    var a7 = vec4<f32>(0.0);
    for (var c = 0u; c < k; c += 4u) {
        let w0 = weights4(o.x, c, k, row_words);
        let w1 = weights4(o.y, c, k, row_words);
        let w2 = weights4(o.z, c, k, row_words);
        let w3 = weights4(o.w, c, k, row_words);
        a0 += dots(x4(r.x, c, k), w0, w1, w2, w3);
        if (ROWS > 1u) {
            a1 += dots(x4(r.y, c, k), w0, w1, w2, w3);
            a2 += dots(x4(r.z, c, k), w0, w1, w2, w3);
            a3 += dots(x4(r.w, c, k), w0, w1, w2, w3);
        }
        if (ROWS > 4u) {
            a4 += dots(x4(s.x, c, k), w0, w1, w2, w3);
            a5 += dots(x4(s.y, c, k), w0, w1, w2, w3);
            a6 += dots(x4(s.z, c, k), w0, w1, w2, w3);
            a7 += dots(x4(s.w, c, k), w0, w1, w2, w3);
        }
    }
    for (var i = 0u; i < 4u; i++) {
        if (out + i < rows) {
            store(row, out + i, first, n, a0[i]);
            if (ROWS > 1u) {
                if (row + 1u < m) { store(row + 1u, out + i, first, n, a1[i]); }
                if (row + 2u < m) { store(row + 2u, out + i, first, n, a2[i]); }
                if (row + 3u < m) { store(row + 3u, out + i, first, n, a3[i]); }
            }
            if (ROWS > 4u) {
                if (row + 4u < m) { store(row + 4u, out + i, first, n, a4[i]); }
                if (row + 5u < m) { store(row + 5u, out + i, first, n, a5[i]); }
                if (row + 6u < m) { store(row + 6u, out + i, first, n, a6[i]); }
                if (row + 7u < m) { store(row + 7u, out + i, first, n, a7[i]); }
            }
        }
    }
}
