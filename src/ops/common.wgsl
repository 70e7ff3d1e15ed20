// Joined to every kernel: where it is, whatever grid the count of its workgroups was folded into.
fn workgroup_index(here: Here) -> u32 {
    return here.group.y * here.groups.x + here.group.x;
}
// A grid of two dimensions may be larger than what was asked for. What is behind the end does the last one's work again: a kernel
// with barriers must not be left.
fn workgroup_within(here: Here) -> u32 {
    return min(workgroup_index(here), info[GROUPS] - 1u);
}
fn thread_index(here: Here) -> u32 {
    return workgroup_index(here) * WORKGROUP + here.lane;
}
