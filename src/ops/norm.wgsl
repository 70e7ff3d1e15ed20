// A workgroup makes one row. Two passes over it: the mean (CENTRED; else zero), then the squares of the distances from it.
var<workgroup> sums: array<f32, 64>;

fn sum_of_all(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    sums[lane] = value;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) { sums[lane] += sums[lane + width]; }
        workgroupBarrier();
    }
    return sums[0];
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = info[0];
    let eps = bitcast<f32>(info[1]);
    let row = workgroup_index(group, groups);
    let rows = workgroup_count();
    let start = min(row, rows - 1u) * width;
    var mean = 0.0;
    if (CENTRED == 1u) {
        var sum = 0.0;
        for (var i = lane; i < width; i += WORKGROUP) { sum += x[start + i]; }
        mean = sum_of_all(lane, sum) / f32(width);
    }
    var value = 0.0;
    for (var i = lane; i < width; i += WORKGROUP) {
        let distance = x[start + i] - mean;
        value += distance * distance;
    }
    let scale = inverseSqrt(sum_of_all(lane, value) / f32(width) + eps);
    if (row >= rows) { return; }
    for (var i = lane; i < width; i += WORKGROUP) {
        var v = (x[start + i] - mean) * scale * gamma[i];
        if (CENTRED == 1u) { v += beta[i]; }
        y[start + i] = v;
    }
}
