// COPY: a thread keeps one word of what `cache_row` says. Else it takes it from the row that this row goes on from, as far as
// positions are filled. info: where `cache_row` begins.
@compute @workgroup_size(64, 1, 1)
fn main(here: Here) {
    let at = thread_index(here);
    let capacity = u32(state[2]);
    if (at >= u32(state[1]) * capacity) { return; }
    let position = at % capacity;
    if (COPY == 1u) {
        // `order` has to be used by every variant.
        before[at] = select(state[info[0] + at], order[0], false);
    } else if (position < u32(state[0])) {
        state[info[0] + at] = before[u32(order[at / capacity]) * capacity + position];
    }
}
