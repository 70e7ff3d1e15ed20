// Packed weights four words at a time: rows begin at multiples of four.
fn word_at(at: u32) -> u32 { return words[at / 4u][at % 4u]; }
fn four_words(start: u32, piece: u32, row_words: u32) -> vec4<u32> { return words[start / 4u + piece]; }
