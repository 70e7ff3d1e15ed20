// A thread makes one element. QUANT as in linear.wgsl.
fn weight(row: u32, column: u32, columns: u32, row_words: u32) -> f32 {
    let start = row * row_words;
    if (QUANT == 0u) { return bitcast<f32>(words[start + column]); }
    if (QUANT == 1u) { return unpack2x16float(words[start + column / 2u])[column & 1u]; }
    let block = column / 32u;
    let blocks = (columns + 31u) / 32u;
    if (QUANT == 2u) {
        let scale = unpack2x16float(words[start + blocks * 8u + block / 2u])[block & 1u];
        return f32((i32(words[start + column / 4u]) << (24u - (column & 3u) * 8u)) >> 24u) * scale;
    }
    let scale = unpack2x16float(words[start + blocks * 4u + block / 2u])[block & 1u];
    return (f32((words[start + column / 8u] >> ((column & 7u) * 4u)) & 15u) - 8.0) * scale;
}

@compute @workgroup_size(64, 1, 1)
fn main(here: Here) {
    let count = info[0];
    let columns = info[1];
    let at = thread_index(here);
    if (at >= count * columns) { return; }
    // OPT asks for position −1 where nothing is attended: with the shift that is a row.
    let row = ids[info[2] + at / columns] + i32(info[3]);
    let first = info[4];
    let held = row >= i32(first) && row < i32(first + info[5]);
    if (!held && FIRST == 0u) { return; }
    var value = 0.0;
    if (held) { value = weight(u32(row) - first, at % columns, columns, info[6]); }
    if (ADD == 1u) { value += add[at]; }
    y[at] = value;
}
