//! Images and text to what the models take, and ids back to text.
