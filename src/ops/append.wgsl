// A thread copies one float of k and one of v. info: positions, width, rows of the state for each row of k.
@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let positions = info[0];
    let width = info[1];
    let at = workgroup_index(group, groups) * WORKGROUP + lane;
    let row = at / (positions * width);
    if (row * info[2] >= u32(state[1])) { return; }
    let to = (row * info[2] * u32(state[2]) + u32(state[0])) * width + at % (positions * width);
    k_cache[to] = k[at];
    v_cache[to] = v[at];
}
