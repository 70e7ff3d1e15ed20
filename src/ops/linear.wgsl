// y[m, n] = activation(x[m, k] · W[n, k]ᵀ + bias) · gate + residual for the rows FIRST.. of W that this chunk holds.
// W is packed as weights::quant says; QUANT: 0 f32, 1 f16, 2 q8, 3 q4. Four columns are dequantized at a time. This is what
// linear_threads, linear_few and linear_tiles have in common. info: m, k, n, FIRST, rows of this chunk, words of a row, eps.

fn weights4(row: u32, column: u32, k: u32, row_words: u32) -> vec4<f32> {
    let start = row * row_words;
    if (QUANT == 0u) {
        let at = start + column;
        var w = vec4<f32>(bitcast<f32>(word_at(at)), 0.0, 0.0, 0.0);
        if (column + 1u < k) { w.y = bitcast<f32>(word_at(at + 1u)); }
        if (column + 2u < k) { w.z = bitcast<f32>(word_at(at + 2u)); }
        if (column + 3u < k) { w.w = bitcast<f32>(word_at(at + 3u)); }
        return w;
    }
    if (QUANT == 1u) {
        let at = start + column / 2u;
        let low = unpack2x16float(word_at(at));
        var high = vec2<f32>(0.0, 0.0);
        if (column + 2u < k) { high = unpack2x16float(word_at(at + 1u)); }
        return vec4<f32>(low, high);
    }
    let block = column / 32u;
    let blocks = (k + 31u) / 32u;
    if (QUANT == 2u) {
        let scales = unpack2x16float(word_at(start + blocks * 8u + block / 2u));
        let word = i32(word_at(start + column / 4u));
        let w = vec4<i32>(word << 24u, word << 16u, word << 8u, word) >> vec4<u32>(24u);
        return vec4<f32>(w) * select(scales.x, scales.y, (block & 1u) == 1u);
    }
    let scales = unpack2x16float(word_at(start + blocks * 4u + block / 2u));
    let word = word_at(start + column / 8u) >> ((column & 4u) * 4u);
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

// Rows from `row` on, repeated past the last one.
fn rows_from(row: u32, m: u32) -> vec4<u32> {
    return min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(m - 1u));
}
