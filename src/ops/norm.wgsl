// A workgroup makes one row. Two passes over it: the mean (CENTRED; else zero), then the squares of the distances from it.
@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    let width = info[0];
    let eps = bitcast<f32>(info[1]);
    let start = workgroup_within(here) * width;
    var mean = 0.0;
    if (CENTRED == 1u) {
        var sum = 0.0;
        for (var i = lane; i < width; i += WORKGROUP) { sum += x[start + i]; }
        mean = sum_of_all(here, vec4<f32>(sum, 0.0, 0.0, 0.0)).x / f32(width);
    }
    var value = 0.0;
    for (var i = lane; i < width; i += WORKGROUP) {
        let distance = x[start + i] - mean;
        value += distance * distance;
    }
    let scale = inverseSqrt(sum_of_all(here, vec4<f32>(value, 0.0, 0.0, 0.0)).x / f32(width) + eps);
    for (var i = lane; i < width; i += WORKGROUP) {
        var v = (x[start + i] - mean) * scale * gamma[i];
        if (CENTRED == 1u) { v += beta[i]; }
        y[start + i] = v;
    }
}
