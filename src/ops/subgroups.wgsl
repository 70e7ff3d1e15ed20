// What the lanes of a workgroup find out together, by subgroup operations; lanes of a subgroup lie side by side. Else as
// here.wgsl and workgroup.wgsl.
struct Here {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

const TEAM: u32 = 32u;

var<workgroup> put_down: array<vec4<f32>, WORKGROUP>;

fn sum_of_all(here: Here, value: vec4<f32>) -> vec4<f32> {
    let part = subgroupAdd(value);
    workgroupBarrier();
    put_down[here.lane] = part;
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < WORKGROUP; i += here.subgroup_size) { sum += put_down[i]; }
    return sum;
}

fn max_of_all(here: Here, value: f32) -> f32 {
    let part = subgroupMax(value);
    workgroupBarrier();
    put_down[here.lane].x = part;
    workgroupBarrier();
    var highest = part;
    for (var i = 0u; i < WORKGROUP; i += here.subgroup_size) { highest = max(highest, put_down[i].x); }
    return highest;
}

// A subgroup may be smaller than a team, or hold two.
fn sum_teams(here: Here, value: vec4<f32>) {
    var sum = value;
    sum += select(vec4<f32>(0.0), subgroupShuffleXor(sum, 1u), here.subgroup_size > 1u);
    sum += select(vec4<f32>(0.0), subgroupShuffleXor(sum, 2u), here.subgroup_size > 2u);
    sum += select(vec4<f32>(0.0), subgroupShuffleXor(sum, 4u), here.subgroup_size > 4u);
    sum += select(vec4<f32>(0.0), subgroupShuffleXor(sum, 8u), here.subgroup_size > 8u);
    sum += select(vec4<f32>(0.0), subgroupShuffleXor(sum, 16u), here.subgroup_size > 16u);
    workgroupBarrier();
    put_down[here.lane] = sum;
    workgroupBarrier();
}

fn team_sum(here: Here, team: u32, place: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < TEAM; i += min(TEAM, here.subgroup_size)) { sum += put_down[team * TEAM + i][place]; }
    return sum;
}
