// Few rows of x, as in a decode step, which is bound by reading W once. A team of 32 threads shares the columns of OUTS outputs:
// neighbours read neighbouring 16 bytes of a row of W, and what is read of x serves all OUTS. The workgroup's teams share x in
// its memory, a stretch of columns at a time. NORM: 1 a LayerNorm, 2 an RMSNorm of x comes first; every workgroup finds its
// statistics itself, which costs a pass over x (it is in the cache then) and saves a launch.
const OUTS: u32 = 4u;
const OUTPUTS: u32 = WORKGROUP / TEAM * OUTS;
// Columns that four words hold, a piece, and a piece's vectors of four.
const PIECE: u32 = 4u << QUANT;
const QUADS: u32 = PIECE / 4u;
const STRETCH: u32 = 3072u / ROWS;
const PIECES: u32 = STRETCH / PIECE;
// x lies so that neighbours read neighbouring vectors; a row is one longer, so that threads that write it meet different banks.
const STRIDE: u32 = PIECES + 1u;
const VECTORS: u32 = (ROWS + 3u) / 4u;

var<workgroup> x_stretch: array<vec4<f32>, ROWS * QUADS * STRIDE>;
var<workgroup> sizes: vec3<u32>;

// Four weights of a piece, not yet scaled. With the bits of 2²³ a small integer is a float without a conversion.
fn quad(w: vec4<u32>, q: u32) -> vec4<f32> {
    if (QUANT == 0u) { return bitcast<vec4<f32>>(w); }
    if (QUANT == 1u) { return vec4<f32>(unpack2x16float(w[q * 2u]), unpack2x16float(w[q * 2u + 1u])); }
    if (QUANT == 2u) {
        let word = w[q] ^ 0x80808080u;
        let bytes = vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u) & vec4<u32>(255u);
        return bitcast<vec4<f32>>(bytes | vec4<u32>(0x4B000000u)) - 8388736.0;
    }
    let word = w[q / 2u] >> ((q & 1u) * 16u);
    let nibbles = vec4<u32>(word, word >> 4u, word >> 8u, word >> 12u) & vec4<u32>(15u);
    return bitcast<vec4<f32>>(nibbles | vec4<u32>(0x4B000000u)) - 8388616.0;
}

fn scale_of(start: u32, piece: u32, k: u32) -> f32 {
    if (QUANT < 2u) { return 1.0; }
    let block = piece * PIECE / 32u;
    let blocks = (k + 31u) / 32u;
    let scales = unpack2x16float(word_at(start + blocks * (128u / PIECE) + block / 2u));
    return select(scales.x, scales.y, (block & 1u) == 1u);
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    // What is read from a buffer is not uniform to WGSL, and a loop around a barrier has to be.
    if (lane == 0u) { sizes = vec3<u32>(info[0], info[1], info[4]); }
    let held = workgroupUniformLoad(&sizes);
    let m = held.x;
    let k = held.y;
    let rows = held.z;
    let n = info[2];
    let first = info[3];
    let row_words = info[5];
    let sets = (rows + OUTPUTS - 1u) / OUTPUTS;
    let index = workgroup_within(here);
    let row = index / sets * ROWS;
    let out = index % sets * OUTPUTS;

    var mean: array<vec4<f32>, VECTORS>;
    var scale: array<vec4<f32>, VECTORS>;
    if (NORM > 0u) {
        for (var v = 0u; v < VECTORS; v++) {
            let at = rows_from(row + v * 4u, m) * k;
            var sum = vec4<f32>(0.0);
            if (NORM == 1u) {
                for (var c = lane; c < k; c += WORKGROUP) { sum += vec4<f32>(x[at.x + c], x[at.y + c], x[at.z + c], x[at.w + c]); }
                mean[v] = sum_of_all(here, sum) / f32(k);
            }
            sum = vec4<f32>(0.0);
            for (var c = lane; c < k; c += WORKGROUP) {
                let distance = vec4<f32>(x[at.x + c], x[at.y + c], x[at.z + c], x[at.w + c]) - mean[v];
                sum += distance * distance;
            }
            scale[v] = inverseSqrt(sum_of_all(here, sum) / f32(k) + bitcast<f32>(info[6]));
        }
    }

    // Outputs past the edge repeat the last one and are not stored.
    let starts = rows_from(out + lane / TEAM * OUTS, rows) * row_words;
    var sums: array<vec4<f32>, ROWS>;
    for (var start = 0u; start < k; start += STRETCH) {
        workgroupBarrier();
        let columns = min(STRETCH, (k - start + 31u) / 32u * 32u);
        for (var r = 0u; r < ROWS; r++) {
            let x_row = min(row + r, m - 1u) * k;
            for (var four = lane; four < columns / 4u; four += WORKGROUP) {
                var v = vec4<f32>(0.0);
                for (var i = 0u; i < 4u; i++) {
                    let c = start + four * 4u + i;
                    if (c < k) {
                        var value = x[x_row + c];
                        if (NORM > 0u) { value = (value - mean[r / 4u][r % 4u]) * scale[r / 4u][r % 4u] * gamma[c]; }
                        if (NORM == 1u) { value += beta[c]; }
                        v[i] = value;
                    }
                }
                x_stretch[(r * QUADS + four % QUADS) * STRIDE + four / QUADS] = v;
            }
        }
        workgroupBarrier();
        for (var near = lane % TEAM; near < columns / PIECE; near += TEAM) {
            let piece = start / PIECE + near;
            if (piece * PIECE >= k) { break; }
            let w0 = four_words(starts.x, piece, row_words);
            let w1 = four_words(starts.y, piece, row_words);
            let w2 = four_words(starts.z, piece, row_words);
            let w3 = four_words(starts.w, piece, row_words);
            let scales = vec4<f32>(scale_of(starts.x, piece, k), scale_of(starts.y, piece, k), scale_of(starts.z, piece, k), scale_of(starts.w, piece, k));
            var part = array<vec4<f32>, ROWS>();
            for (var q = 0u; q < QUADS; q++) {
                let v0 = quad(w0, q);
                let v1 = quad(w1, q);
                let v2 = quad(w2, q);
                let v3 = quad(w3, q);
                for (var r = 0u; r < ROWS; r++) {
                    let v = x_stretch[(r * QUADS + q) * STRIDE + near];
                    part[r] += vec4<f32>(dot(v, v0), dot(v, v1), dot(v, v2), dot(v, v3));
                }
            }
            for (var r = 0u; r < ROWS; r++) { sums[r] += part[r] * scales; }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        sum_teams(here, sums[r]);
        if (lane < OUTPUTS && row + r < m && out + lane < rows) {
            store(row + r, out + lane, first, n, team_sum(here, lane / OUTS, lane % OUTS));
        }
    }
}
