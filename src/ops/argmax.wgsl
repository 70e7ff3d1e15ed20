// A workgroup a row; of equal values the lowest place wins.
var<workgroup> values: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = info[0];
    let row = min(workgroup_index(group, groups), workgroup_count() - 1u);
    var place = min(lane, width - 1u);
    var value = logits[row * width + place];
    for (var i = lane + WORKGROUP; i < width; i += WORKGROUP) {
        let candidate = logits[row * width + i];
        if (candidate > value) {
            value = candidate;
            place = i;
        }
    }
    values[lane] = value;
    places[lane] = place;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            let other = lane + width;
            if (values[other] > values[lane] || (values[other] == values[lane] && places[other] < places[lane])) {
                values[lane] = values[other];
                places[lane] = places[other];
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) { best[row] = i32(places[0]); }
}
