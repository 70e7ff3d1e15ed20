// What a cache keeps in a word: two numbers as f16. Larger ones than an f16 can be become the largest.
fn packed(first: f32, second: f32) -> u32 {
    return pack2x16float(clamp(vec2<f32>(first, second), vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
fn unpacked(word: u32, at: u32) -> f32 {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, at % 2u == 1u);
}
