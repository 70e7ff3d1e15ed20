// Packed weights as single words.
fn word_at(at: u32) -> u32 { return words[at]; }
// Four words of a row that begins at word `start`; what lies behind it is zero.
fn four_words(start: u32, piece: u32, row_words: u32) -> vec4<u32> {
    let begin = start + piece * 4u;
    let left = row_words - piece * 4u;
    var w = vec4<u32>(words[begin], 0u, 0u, 0u);
    if (left > 1u) { w.y = words[begin + 1u]; }
    if (left > 2u) { w.z = words[begin + 2u]; }
    if (left > 3u) { w.w = words[begin + 3u]; }
    return w;
}
