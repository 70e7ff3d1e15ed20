// One workgroup moves every row on. info: positions, count of eos, pad, whether this was the prompt.
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(local_invocation_index) lane: u32) {
    let rows = u32(state[1]);
    for (var row = lane; row < rows; row += WORKGROUP) {
        let finished_at = 4u + 2u * rows + row;
        let finished = state[finished_at] != 0;
        let token = select(next[row], i32(info[2]), finished);
        state[4u + row] = token;
        if (info[3] == 0u) { state[4u + rows + row] += 1; }
        var ended = finished;
        for (var i = 0u; i < info[1]; i++) { ended = ended || eos[i] == token; }
        state[finished_at] = i32(ended);
    }
    if (lane == 0u) { state[0] += i32(info[0]); }
}
