// What a cache keeps in a word: one number.
fn packed(first: f32, second: f32) -> f32 { return first; }
fn unpacked(word: f32, at: u32) -> f32 { return word; }
