// Packed weights four words at a time: rows begin at multiples of four.
fn word_at(at: u32) -> u32 { return words[at / 4u][at % 4u]; }
fn words4(at: u32) -> vec4<u32> { return words[at]; }
