// A thread a word of the new state: filled positions of `cache_row` come from the row that this one goes on from.
// info: count of words, where `cache_row` begins.
@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = workgroup_index(group, groups) * WORKGROUP + lane;
    if (at >= info[0]) { return; }
    var source = at;
    if (at >= info[1]) {
        let capacity = u32(before[2]);
        let row = (at - info[1]) / capacity;
        let position = (at - info[1]) % capacity;
        if (position < u32(before[0])) { source = info[1] + u32(order[row]) * capacity + position; }
    }
    state[at] = before[source];
}
