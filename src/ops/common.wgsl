// Joined to every kernel: the index of a workgroup, whatever grid its count was folded into.
fn workgroup_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
// A grid of two dimensions may be larger than what was asked for.
fn workgroup_count() -> u32 {
    return info[GROUPS];
}
