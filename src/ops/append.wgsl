// A thread copies one word's numbers of k and of v. info: positions, width, rows of the state for each row of k; floats in a row
// and the first of them, of k and of v.
@compute @workgroup_size(64, 1, 1)
fn main(here: Here) {
    let positions = info[0];
    let width = info[1];
    let at = thread_index(here) * IN_WORD;
    let row = at / (positions * width);
    if (row * info[2] >= u32(state[1])) { return; }
    let to = (row * info[2] * u32(state[2]) + u32(state[0])) * width + at % (positions * width);
    let from_k = at / width * info[3] + info[4] + at % width;
    let from_v = at / width * info[5] + info[6] + at % width;
    let next = IN_WORD - 1u;
    k_cache[to / IN_WORD] = packed(k[from_k], k[from_k + next]);
    if (FUSED == 1u) {
        v_cache[to / IN_WORD] = packed(k[from_v], k[from_v + next]);
    } else {
        v_cache[to / IN_WORD] = packed(v[from_v], v[from_v + next]);
    }
}
