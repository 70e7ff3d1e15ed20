// Many rows of x, as in an encoding or a prompt: a workgroup makes TILE x TILE products, a thread 4 x 4 of them. A slice of x
// and one of W, dequantized once, lie in the workgroup's memory, so that either is read from the device once a tile instead of
// once a product. A Number is an f32, or an f16 where the arithmetic is that of halves: then a slice is summed in f16, slices in f32.
const TILE: u32 = 64u;
const SLICE: u32 = 16u;
// A row is one longer than it needs to be: threads side by side then read from different banks.
const STRIDE: u32 = TILE + 1u;

var<workgroup> x_slice: array<Number, SLICE * STRIDE>;
var<workgroup> w_slice: array<Number, SLICE * STRIDE>;
var<workgroup> columns: u32;

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    // What is read from a buffer is not uniform to WGSL, and a loop around a barrier has to be.
    if (lane == 0u) { columns = info[1]; }
    let k = workgroupUniformLoad(&columns);
    let m = info[0];
    let n = info[2];
    let first = info[3];
    let rows = info[4];
    let row_words = info[5];
    let across = (rows + TILE - 1u) / TILE;
    let index = workgroup_within(here);
    let out = (index % across) * TILE;
    let row = (index / across) * TILE;
    // What the thread makes: 4 rows of x, 4 outputs.
    let own_row = (lane / 16u) * 4u;
    let own_out = (lane % 16u) * 4u;
    // What it fetches: 4 columns of one row of x and of one row of W.
    let fetched = lane / 4u;
    let column = (lane % 4u) * 4u;
    let x_row = min(row + fetched, m - 1u);
    let w_row = min(out + fetched, rows - 1u);
    var sums: array<vec4<f32>, 4>;
    for (var start = 0u; start < k; start += SLICE) {
        let c = start + column;
        var v = vec4<f32>(0.0);
        var w = vec4<f32>(0.0);
        if (c < k) {
            v = x4(x_row, c, k);
            w = weights4(w_row, c, k, row_words);
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            x_slice[(column + i) * STRIDE + fetched] = Number(v[i]);
            w_slice[(column + i) * STRIDE + fetched] = Number(w[i]);
        }
        workgroupBarrier();
        var part = array<vec4<Number>, 4>();
        for (var i = 0u; i < SLICE; i++) {
            let at = i * STRIDE;
            let b = vec4<Number>(w_slice[at + own_out], w_slice[at + own_out + 1u], w_slice[at + own_out + 2u], w_slice[at + own_out + 3u]);
            for (var r = 0u; r < 4u; r++) { part[r] += x_slice[at + own_row + r] * b; }
        }
        for (var r = 0u; r < 4u; r++) { sums[r] += vec4<f32>(part[r]); }
    }
    for (var r = 0u; r < 4u; r++) {
        for (var o = 0u; o < 4u; o++) {
            if (row + own_row + r < m && out + own_out + o < rows) { store(row + own_row + r, out + own_out + o, first, n, sums[r][o]); }
        }
    }
}
