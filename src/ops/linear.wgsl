// y[m, n] = activation(x[m, k] · W[n, k]ᵀ + bias) · gate + residual for the rows FIRST.. of W that this chunk holds.
// W is packed as weights::quant says; QUANT: 0 f32, 1 f16, 2 q8, 3 q4. Four columns are dequantized at a time.
// VARIANT 0: a thread makes ROWS x 4 outputs. VARIANT 1: a workgroup makes ROWS x 1 outputs, its threads share the columns.

fn weights4(row: u32, column: u32, k: u32, row_words: u32) -> vec4<f32> {
    let start = row * row_words;
    if (QUANT == 0u) {
        let at = start + column;
        var w = vec4<f32>(bitcast<f32>(words[at]), 0.0, 0.0, 0.0);
        if (column + 1u < k) { w.y = bitcast<f32>(words[at + 1u]); }
        if (column + 2u < k) { w.z = bitcast<f32>(words[at + 2u]); }
        if (column + 3u < k) { w.w = bitcast<f32>(words[at + 3u]); }
        return w;
    }
    if (QUANT == 1u) {
        let at = start + column / 2u;
        let low = unpack2x16float(words[at]);
        var high = vec2<f32>(0.0, 0.0);
        if (column + 2u < k) { high = unpack2x16float(words[at + 1u]); }
        return vec4<f32>(low, high);
    }
    let block = column / 32u;
    let blocks = (k + 31u) / 32u;
    if (QUANT == 2u) {
        let scales = unpack2x16float(words[start + blocks * 8u + block / 2u]);
        let word = i32(words[start + column / 4u]);
        let w = vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u);
        return vec4<f32>(w) * select(scales.x, scales.y, (block & 1u) == 1u);
    }
    let scales = unpack2x16float(words[start + blocks * 4u + block / 2u]);
    let word = words[start + column / 8u] >> ((column & 4u) * 4u);
    let w = vec4<u32>(word, word >> 4u, word >> 8u, word >> 12u) & vec4<u32>(15u);
    return (vec4<f32>(w) - 8.0) * select(scales.x, scales.y, (block & 1u) == 1u);
}

fn x4(row: u32, column: u32, k: u32) -> vec4<f32> {
    let at = row * k + column;
    var v = vec4<f32>(x[at], 0.0, 0.0, 0.0);
    if (column + 1u < k) { v.y = x[at + 1u]; }
    if (column + 2u < k) { v.z = x[at + 2u]; }
    if (column + 3u < k) { v.w = x[at + 3u]; }
    return v;
}

fn store(row: u32, out: u32, first: u32, n: u32, value: f32) {
    var v = value;
    let column = first + out;
    if (BIAS == 1u) { v += bias[column]; }
    v = activate(v);
    if (GATE == 1u) { v *= other[row * n + column]; }
    if (RESIDUAL == 1u) { v += other[row * n + column]; }
    y[row * n + column] = v;
}

// Four products of one vector of x with four rows of W.
fn dots(v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3));
}

// Rows from `row` on, repeated past the last one.
fn rows_from(row: u32, m: u32) -> vec4<u32> {
    return min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(m - 1u));
}

var<workgroup> partial: array<vec4<f32>, 128>;

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let m = info[0];
    let k = info[1];
    let n = info[2];
    let first = info[3];
    let rows = info[4];
    let row_words = info[5];
    let index = workgroup_index(group, groups);
    if (VARIANT == 0u) {
        let tiles = (rows + 3u) / 4u;
        let tile = index * WORKGROUP + lane;
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
    } else {
        let out = index % rows;
        let row = (index / rows) * ROWS;
        let r = rows_from(row, m);
        let s = rows_from(row + 4u, m);
        var low = vec4<f32>(0.0);
        var high = vec4<f32>(0.0);
        if (index < workgroup_count()) {
            for (var c = lane * 4u; c < k; c += WORKGROUP * 4u) {
                let w = weights4(out, c, k, row_words);
                low.x += dot(x4(r.x, c, k), w);
                if (ROWS > 1u) {
                    low.y += dot(x4(r.y, c, k), w);
                    low.z += dot(x4(r.z, c, k), w);
                    low.w += dot(x4(r.w, c, k), w);
                }
                if (ROWS > 4u) {
                    high.x += dot(x4(s.x, c, k), w);
                    high.y += dot(x4(s.y, c, k), w);
                    high.z += dot(x4(s.z, c, k), w);
                    high.w += dot(x4(s.w, c, k), w);
                }
            }
        }
        partial[lane] = low;
        partial[lane + WORKGROUP] = high;
        workgroupBarrier();
        for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
            if (lane < half) {
                partial[lane] += partial[lane + half];
                partial[lane + WORKGROUP] += partial[lane + half + WORKGROUP];
            }
            workgroupBarrier();
        }
        if (index < workgroup_count() && lane < ROWS && row + lane < m) {
            store(row + lane, out, first, n, partial[(lane / 4u) * WORKGROUP][lane % 4u]);
        }
    }
}
