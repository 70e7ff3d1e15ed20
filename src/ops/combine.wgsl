// Joins what SPLITS workgroups have made of their stretches of a query's keys (softmax_tiles.wgsl): a thread a float of y.
@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let at = thread_index(here);
    if (at >= info[0]) { return; }
    let first = at / HEAD_DIM * SPLITS * (HEAD_DIM + 2u);
    var highest = stretches[first + HEAD_DIM];
    for (var s = 1u; s < SPLITS; s++) { highest = max(highest, stretches[first + s * (HEAD_DIM + 2u) + HEAD_DIM]); }
    var sum = 0.0;
    var total = 0.0;
    for (var s = 0u; s < SPLITS; s++) {
        let from_stretch = first + s * (HEAD_DIM + 2u);
        let weight = exp(stretches[from_stretch + HEAD_DIM] - highest);
        sum += weight * stretches[from_stretch + at % HEAD_DIM];
        total += weight * stretches[from_stretch + HEAD_DIM + 1u];
    }
    y[at] = sum / total;
}
