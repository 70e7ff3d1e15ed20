// Few rows of x, as in a decode step: a workgroup makes ROWS x OUTPUTS products, its threads share the columns, so that
// neighbours read neighbouring words of W. NORM: 1 a LayerNorm, 2 an RMSNorm of x comes first; every workgroup finds its
// statistics itself, which costs a pass over x (it is in the cache then) and saves a launch.
const VECTORS: u32 = (ROWS + 3u) / 4u;

var<workgroup> partial: array<vec4<f32>, WORKGROUP>;
var<workgroup> means: array<f32, ROWS>;
var<workgroup> scales: array<f32, ROWS>;

fn sum_of_all(lane: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    return partial[0];
}

// The mean (of a LayerNorm) and the scale of each row from `row` on.
fn statistics(row: u32, m: u32, k: u32, lane: u32) {
    let count = f32(k);
    let eps = bitcast<f32>(info[6]);
    for (var first = 0u; first < ROWS; first += 4u) {
        let at = rows_from(row + first, m) * k;
        var mean = vec4<f32>(0.0);
        if (NORM == 1u) {
            var sum = vec4<f32>(0.0);
            for (var c = lane; c < k; c += WORKGROUP) { sum += vec4<f32>(x[at.x + c], x[at.y + c], x[at.z + c], x[at.w + c]); }
            mean = sum_of_all(lane, sum) / count;
        }
        var squares = vec4<f32>(0.0);
        for (var c = lane; c < k; c += WORKGROUP) {
            let distance = vec4<f32>(x[at.x + c], x[at.y + c], x[at.z + c], x[at.w + c]) - mean;
            squares += distance * distance;
        }
        let scale = inverseSqrt(sum_of_all(lane, squares) / count + eps);
        if (lane < 4u && first + lane < ROWS) {
            means[first + lane] = mean[lane];
            scales[first + lane] = scale[lane];
        }
    }
    workgroupBarrier();
}

// Four columns of a row of x, behind the norm. `at`: place among ROWS.
fn normed4(row: u32, at: u32, column: u32, k: u32) -> vec4<f32> {
    var v = x4(row, column, k);
    if (NORM > 0u) {
        v = (v - means[at]) * scales[at] * gamma4(column, k);
        if (NORM == 1u) { v += beta4(column, k); }
    }
    return v;
}

fn gamma4(column: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>(gamma[column], 0.0, 0.0, 0.0);
    if (column + 1u < k) { v.y = gamma[column + 1u]; }
    if (column + 2u < k) { v.z = gamma[column + 2u]; }
    if (column + 3u < k) { v.w = gamma[column + 3u]; }
    return v;
}

fn beta4(column: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>(beta[column], 0.0, 0.0, 0.0);
    if (column + 1u < k) { v.y = beta[column + 1u]; }
    if (column + 2u < k) { v.z = beta[column + 2u]; }
    if (column + 3u < k) { v.w = beta[column + 3u]; }
    return v;
}

@compute @workgroup_size(WORKGROUP, 1, 1)
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
    let tiles = (rows + OUTPUTS - 1u) / OUTPUTS;
    // A grid of two dimensions may be larger than what was asked for: what is behind the end does the last one's work again.
    let index = min(workgroup_index(group, groups), workgroup_count() - 1u);
    let out = (index % tiles) * OUTPUTS;
    let row = (index / tiles) * ROWS;
    if (NORM > 0u) { statistics(row, m, k, lane); }

    var sums: array<vec4<f32>, OUTPUTS * VECTORS>;
    for (var c = lane * 4u; c < k; c += WORKGROUP * 4u) {
        // Rows and outputs past the edge repeat the last one and are not stored.
        var w: array<vec4<f32>, OUTPUTS>;
        for (var o = 0u; o < OUTPUTS; o++) { w[o] = weights4(min(out + o, rows - 1u), c, k, row_words); }
        for (var r = 0u; r < ROWS; r++) {
            let v = normed4(min(row + r, m - 1u), r, c, k);
            for (var o = 0u; o < OUTPUTS; o++) { sums[o * VECTORS + r / 4u][r % 4u] += dot(v, w[o]); }
        }
    }
    for (var o = 0u; o < OUTPUTS; o++) {
        for (var vector = 0u; vector < VECTORS; vector++) {
            let total = sum_of_all(lane, sums[o * VECTORS + vector]);
            let r = vector * 4u + lane;
            if (lane < 4u && r < ROWS && row + r < m && out + o < rows) { store(row + r, out + o, first, n, total[lane]); }
        }
    }
}
