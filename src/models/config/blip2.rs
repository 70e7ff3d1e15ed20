//! HF `Blip2Config`.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::models::config::{
    Blip2QFormerConfig, Blip2VisionConfig, FILE, TextConfig, bounded, expect_model_type, nested, parse, parse_object, part, pretty,
};

/// HF `Blip2Config`.
///
/// ```
/// use blip2_web::models::{Blip2Config, Blip2QFormerConfig, Blip2VisionConfig};
///
/// // What a file leaves out takes the default of HF's class.
/// let config = Blip2Config::from_json(br#"{"model_type": "blip-2", "num_query_tokens": 16}"#)?;
/// assert_eq!((config.num_query_tokens, config.vision_config.num_hidden_layers), (16, 39));
/// assert_eq!(Blip2Config::from_json(&config.to_json()?)?, config);
///
/// let vision = Blip2VisionConfig { hidden_size: 64, num_attention_heads: 4, ..Blip2VisionConfig::default() };
/// let config = Blip2Config::from_vision_qformer_text_configs(vision, Blip2QFormerConfig::default(), None)?;
/// assert_eq!(config.qformer_config.encoder_hidden_size, 64);
/// # Ok::<(), blip2_web::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Blip2Config {
    /// The class that was saved.
    pub architectures: Vec<String>,
    pub vision_config: Blip2VisionConfig,
    pub qformer_config: Blip2QFormerConfig,
    pub text_config: TextConfig,
    pub num_query_tokens: usize,
    pub image_text_hidden_size: usize,
    /// Where image features go in the text; `None` in retrieval checkpoints and old files.
    pub image_token_index: Option<u32>,
}

impl Blip2Config {
    pub const MODEL_TYPE: &'static str = "blip-2";

    /// HF's constructor of that name; without `text` the language model is OPT with its defaults. Other fields are set on what
    /// it gives. Errors: config-invalid, model-unsupported.
    pub fn from_vision_qformer_text_configs(
        vision: Blip2VisionConfig,
        qformer: Blip2QFormerConfig,
        text: Option<TextConfig>,
    ) -> Result<Self> {
        let config = Self::of_parts(vision, qformer, text.unwrap_or_default());
        config.validate()?;
        Ok(config)
    }

    /// Errors: config-invalid, model-unsupported.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file = parse_object(bytes)?;
        expect_model_type(&file, Self::MODEL_TYPE)?;
        let number = |name: &str| match file.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|value| usize::try_from(value).ok())
                .map(Some)
                .ok_or_else(|| Error::config(FILE, format!("{name}: not a whole number"))),
        };
        let mut config = Self::of_parts(
            parse("vision_config", part(&file, "vision_config"))?,
            parse("qformer_config", part(&file, "qformer_config"))?,
            TextConfig::from_value(part(&file, "text_config"))?,
        );
        if let Some(names) = file.get("architectures").filter(|names| !names.is_null()) {
            config.architectures = parse("architectures", names.clone())?;
        }
        config.num_query_tokens = number("num_query_tokens")?.unwrap_or(config.num_query_tokens);
        config.image_text_hidden_size = number("image_text_hidden_size")?.unwrap_or(config.image_text_hidden_size);
        let image_token = if file.contains_key("image_token_index") { "image_token_index" } else { "image_token_id" };
        let narrow = |id: usize| u32::try_from(id).map_err(|_| Error::config(FILE, format!("{image_token}: too large")));
        config.image_token_index = number(image_token)?.map(narrow).transpose()?;
        config.validate()?;
        Ok(config)
    }

    /// As `save_pretrained` writes it, less what it says of itself (`dtype`, `transformers_version`). Reading it gives this
    /// config again, derived fields filled in. Errors: config-invalid.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut file = json!({
            "model_type": Self::MODEL_TYPE,
            "vision_config": nested(&self.vision_config, Blip2VisionConfig::MODEL_TYPE)?,
            "qformer_config": nested(&self.qformer_config, Blip2QFormerConfig::MODEL_TYPE)?,
            "text_config": self.text_config.to_value()?,
            "num_query_tokens": self.num_query_tokens,
            "image_text_hidden_size": self.image_text_hidden_size,
            "image_token_index": self.image_token_index,
            "use_decoder_only_language_model": self.use_decoder_only_language_model(),
            // HF sets these two whatever a file says.
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
        });
        if !self.architectures.is_empty() {
            file["architectures"] = json!(self.architectures);
        }
        if self.is_encoder_decoder() {
            file["is_encoder_decoder"] = json!(true);
        }
        pretty(&file)
    }

    /// Derived; what the file says of it is ignored, as in HF.
    pub fn is_encoder_decoder(&self) -> bool {
        self.text_config.is_encoder_decoder()
    }

    /// Derived; what the file says of it is ignored, as in HF.
    pub fn use_decoder_only_language_model(&self) -> bool {
        !self.is_encoder_decoder()
    }

    fn of_parts(vision_config: Blip2VisionConfig, qformer_config: Blip2QFormerConfig, text_config: TextConfig) -> Self {
        Self {
            architectures: vec![],
            qformer_config: Blip2QFormerConfig { encoder_hidden_size: vision_config.hidden_size, ..qformer_config },
            vision_config,
            text_config: text_config.resolved(),
            num_query_tokens: 32,
            image_text_hidden_size: 256,
            image_token_index: None,
        }
    }

    /// Sizes that would make a kernel divide by zero or an allocation overflow.
    fn validate(&self) -> Result<()> {
        self.vision_config.validate()?;
        self.qformer_config.validate()?;
        self.text_config.validate()?;
        bounded("config", &[self.num_query_tokens, self.image_text_hidden_size])
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::models::config::{OPTConfig, T5Config, TokenIds};
    use crate::ops::Activation;

    /// Every config.json below tests/fixtures.
    fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
        fn search(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    search(&path, found);
                } else if path.ends_with(FILE) {
                    found.push((path.clone(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = vec![];
        search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), &mut found);
        assert!(found.len() >= 10, "only {} fixtures", found.len());
        found
    }

    /// What `save_pretrained` says of itself, at any depth.
    fn without_its_own(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.retain(|name, _| !["dtype", "torch_dtype", "transformers_version"].contains(&name.as_str()));
            fields.values_mut().for_each(without_its_own);
        }
    }

    #[test]
    fn an_empty_file_has_the_defaults_of_the_classes() {
        let config = Blip2Config::from_json(b"{}").unwrap();
        assert_eq!(config.num_query_tokens, 32);
        assert_eq!(config.vision_config.num_hidden_layers, 39);
        assert_eq!(config.qformer_config.layer_norm_eps, 1e-12);
        let TextConfig::Opt(text) = &config.text_config else { panic!("the default language model is OPT") };
        assert_eq!((text.pad_token_id, text.embed_dim()), (Some(1), 768));
        let parts = (Blip2VisionConfig::default(), Blip2QFormerConfig::default());
        assert_eq!(Blip2Config::from_vision_qformer_text_configs(parts.0, parts.1, None), Ok(config));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut files = fixtures();
        files.push(("the empty file".into(), b"{}".to_vec()));
        files.push(("T5's defaults".into(), br#"{"text_config": {"model_type": "t5"}}"#.to_vec()));
        files.push(("null ids".into(), br#"{"text_config": {"pad_token_id": null, "eos_token_id": [3, 4]}}"#.to_vec()));
        for (path, json) in files {
            let config = Blip2Config::from_json(&json).unwrap();
            assert_eq!(Blip2Config::from_json(&config.to_json().unwrap()), Ok(config), "{}", path.display());
        }
    }

    #[test]
    fn files_of_save_pretrained_are_written_back_key_by_key() {
        for (path, json) in fixtures() {
            let mut expected: Value = serde_json::from_slice(&json).unwrap();
            without_its_own(&mut expected);
            // This one was made by taking the key away; with it, the file says what it meant without.
            if path.parent().unwrap().ends_with("alt_gelu_new") {
                expected["text_config"]["dense_act_fn"] = json!("gelu_new");
            }
            let written = Blip2Config::from_json(&json).unwrap().to_json().unwrap();
            let written: Value = serde_json::from_slice(&written).unwrap();
            assert_eq!(written, expected, "{}", path.display());
        }
    }

    #[test]
    fn a_file_is_written_with_sorted_keys_and_two_spaces() {
        let json = String::from_utf8(Blip2Config::from_json(b"{}").unwrap().to_json().unwrap()).unwrap();
        let keys: Vec<&str> = json.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
        assert!(keys.len() > 8 && keys.is_sorted(), "{json}");
        assert!(json.ends_with("}\n"));
    }

    #[test]
    fn the_checkpoints_of_the_hub_keep_their_meaning() {
        let json = br#"{"architectures":["Blip2ForConditionalGeneration"],"image_token_index":32100,"qformer_config":{"classifier_dropout":null},
            "text_config":{"model_type":"t5","d_model":2048,"d_ff":5120,"num_layers":24,"num_decoder_layers":24,"num_heads":32,"bos_token_id":1,
            "decoder_start_token_id":0,"feed_forward_proj":"gated-gelu","dense_act_fn":"gelu","is_gated_act":true,"tie_word_embeddings":false,
            "num_beams":1,"max_length":20,"output_past":true,"n_positions":512,"task_specific_params":{"summarization":{"num_beams":4}}},
            "vision_config":{"dropout":0.0,"initializer_factor":1.0,"num_channels":3,"projection_dim":512},"use_decoder_only_language_model":true}"#;
        let config = Blip2Config::from_json(json).unwrap();
        assert!(config.is_encoder_decoder() && !config.use_decoder_only_language_model());
        assert_eq!(config.text_config.generation_fields(), *json!({}).as_object().unwrap());
        let TextConfig::T5(text) = &config.text_config else { panic!("T5") };
        assert_eq!((text.dense_act(), text.is_gated(), text.inner_dim()), (Activation::Gelu, true, 2048));
        assert_eq!((text.pad_token_id, &text.eos_token_id), (Some(0), &Some(TokenIds::One(1))));
    }

    #[test]
    fn encoder_hidden_size_is_the_vision_towers() {
        let json = br#"{"vision_config": {"hidden_size": 32, "num_attention_heads": 4}, "qformer_config": {"encoder_hidden_size": 7}}"#;
        assert_eq!(Blip2Config::from_json(json).unwrap().qformer_config.encoder_hidden_size, 32);
        assert_eq!(Blip2QFormerConfig::from_json(json).unwrap().encoder_hidden_size, 32);
        assert_eq!(Blip2QFormerConfig::from_json(br#"{"encoder_hidden_size": 7}"#).unwrap().encoder_hidden_size, 7);
    }

    #[test]
    fn a_part_is_read_from_its_own_file_and_from_a_whole_models() {
        for (path, json) in fixtures() {
            let whole = Blip2Config::from_json(&json).unwrap();
            let file: Value = serde_json::from_slice(&json).unwrap();
            let alone = |name: &str| serde_json::to_vec(&file[name]).unwrap();
            for json in [&json, &alone("vision_config")] {
                assert_eq!(Blip2VisionConfig::from_json(json).as_ref(), Ok(&whole.vision_config), "{}", path.display());
            }
            for json in [&json, &alone("qformer_config")] {
                assert_eq!(Blip2QFormerConfig::from_json(json).as_ref(), Ok(&whole.qformer_config), "{}", path.display());
            }
            // One is not taken for another: all its fields would be defaults.
            let vision = alone("vision_config");
            assert_eq!(Blip2QFormerConfig::from_json(&vision).unwrap_err().code(), "model-unsupported");
            assert_eq!(Blip2Config::from_json(&vision).unwrap_err().code(), "model-unsupported");
        }
    }

    #[test]
    fn a_config_can_be_put_together() {
        let vision = Blip2VisionConfig { hidden_size: 32, ..Blip2VisionConfig::default() };
        let text = OPTConfig { hidden_size: 36, ..OPTConfig::default() };
        let config =
            Blip2Config::from_vision_qformer_text_configs(vision.clone(), Blip2QFormerConfig::default(), Some(TextConfig::Opt(text)))
                .unwrap();
        assert_eq!(config.qformer_config.encoder_hidden_size, 32);
        assert_eq!(Blip2Config::from_json(&config.to_json().unwrap()), Ok(config));
        let text = T5Config { d_kv: 0, ..T5Config::default() };
        let error = Blip2Config::from_vision_qformer_text_configs(vision, Blip2QFormerConfig::default(), Some(TextConfig::T5(text)));
        assert_eq!(error.unwrap_err().code(), "config-invalid");
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let t5 = |fields: &str| format!(r#"{{"text_config": {{"model_type": "t5", {fields}}}}}"#);
        for json in [
            r#"{"vision_config": {"num_attention_heads": 0}}"#.to_string(),
            r#"{"vision_config": {"hidden_size": 30, "num_attention_heads": 4}}"#.into(),
            r#"{"vision_config": {"patch_size": 0}}"#.into(),
            r#"{"vision_config": {"image_size": 16000000, "patch_size": 1}}"#.into(),
            r#"{"vision_config": {"num_hidden_layers": 100000}}"#.into(),
            r#"{"qformer_config": {"cross_attention_frequency": 0}}"#.into(),
            r#"{"num_query_tokens": -1}"#.into(),
            r#"{"image_token_index": 4294967296}"#.into(),
            r#"{"image_text_hidden_size": 0}"#.into(),
            "[".into(),
            "[]".into(),
            t5(r#""d_kv": 0"#),
            t5(r#""num_heads": 0"#),
            t5(r#""d_model": 100000000"#),
            t5(r#""num_heads": 16000000, "d_kv": 16000000"#),
            t5(r#""num_decoder_layers": 100000"#),
            t5(r#""relative_attention_num_buckets": 2"#),
            t5(r#""relative_attention_max_distance": 16"#),
            t5(r#""feed_forward_proj": "gated-nonsense""#),
            t5(r#""is_encoder_decoder": false"#),
        ] {
            assert_eq!(Blip2Config::from_json(json.as_bytes()).unwrap_err().code(), "config-invalid", "{json}");
        }
        for json in [t5(r#""num_heads": 3, "d_kv": 5, "d_model": 7"#), t5(r#""relative_attention_num_buckets": 5"#)] {
            assert!(Blip2Config::from_json(json.as_bytes()).is_ok(), "{json}");
        }
    }
}
