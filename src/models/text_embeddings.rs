//! Words and their positions, as the Q-Former reads text. HF `Blip2TextEmbeddings`.

use burn_tensor::{Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::layers::Embedding;
use crate::models::config::Blip2QFormerConfig;
use crate::ops::embedding::Lookup;
use crate::weights::Weights;

#[derive(Clone)]
pub struct Blip2TextEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    vocab_size: usize,
    max_position_embeddings: usize,
    hidden_size: usize,
    device: burn_tensor::Device,
}

impl Blip2TextEmbeddings {
    /// `weights` at "embeddings". Errors: weight-missing, weight-shape.
    pub fn load(config: &Blip2QFormerConfig, weights: &Weights) -> Result<Self> {
        let Blip2QFormerConfig { vocab_size, max_position_embeddings, hidden_size, .. } = *config;
        Ok(Self {
            word_embeddings: Embedding::load(&weights.at("word_embeddings"), [vocab_size, hidden_size])?,
            position_embeddings: Embedding::load_table(&weights.at("position_embeddings"), [max_position_embeddings, hidden_size])?,
            vocab_size,
            max_position_embeddings,
            hidden_size,
            device: weights.device(),
        })
    }

    /// word[input_ids] + position[position_ids]: input_ids [B, L], position_ids [1 or B, L] (0, 1, … where `None`)
    /// → [B, L, hidden]. There is no norm: the Q-Former's own comes first there. Errors: input-invalid for rows of several
    /// lengths, ids outside the vocabulary, and positions from `max_position_embeddings` on.
    pub fn forward(&self, input_ids: &[Vec<u32>], position_ids: Option<&[Vec<u32>]>) -> Result<Tensor<3>> {
        let [batch, length] = rectangle("input_ids", input_ids)?;
        let ids = self.ids("input_ids", input_ids.concat(), self.vocab_size)?;
        let positions = match position_ids {
            None => (0..length as u32).collect::<Vec<_>>().repeat(batch),
            Some(rows) => match rectangle("position_ids", rows)? {
                [1, columns] if columns == length => rows.concat().repeat(batch),
                shape if shape == [batch, length] => rows.concat(),
                shape => return Err(Error::input("position_ids", format!("{shape:?} for input_ids {:?}", [batch, length]))),
            },
        };
        let positions = self.ids("position_ids", positions, self.max_position_embeddings)?;
        let positions = self.position_embeddings.forward(&positions)?;
        let lookup = Lookup { ids: &ids, offset: 0, count: batch * length, shift: 0, add: Some(&positions) };
        Ok(self.word_embeddings.lookup(lookup)?.reshape([batch, length, self.hidden_size]))
    }

    fn ids(&self, argument: &str, ids: Vec<u32>, limit: usize) -> Result<Tensor<1, Int>> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= limit) {
            return Err(Error::input(argument, format!("{id} is not among the {limit} that the model has")));
        }
        let count = ids.len();
        // A table has fewer rows than i32 has numbers.
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        Ok(Tensor::from_data(TensorData::new(ids, [count]), &self.device))
    }
}

/// [rows, columns] of a table of ids. Errors: input-invalid where it is empty, or its rows have several lengths.
pub(crate) fn rectangle(argument: &str, rows: &[Vec<u32>]) -> Result<[usize; 2]> {
    let columns = rows.first().map_or(0, Vec::len);
    if columns == 0 || rows.iter().any(|row| row.len() != columns) {
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        return Err(Error::input(argument, format!("rows of {lengths:?} ids; they have to be of one length")));
    }
    Ok([rows.len(), columns])
}
