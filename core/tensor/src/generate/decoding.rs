//! A decoder with what it has read.

use super::NextToken;
use crate::{
    backend::Backend,
    element::Element,
    error::TensorError,
    module::{DynModule, Forward, Mode},
    modules::KvCache,
    parameter::Parameters,
    tensor::to_vec,
    value::{Tokens, Value},
};

/// A module with outputs `next` and `cache`, such as LLaMA and QLLaMA, in the middle of a text.
pub struct Decoding<'a, B: Backend> {
    module: &'a dyn DynModule,
    parameters: &'a Parameters<B>,
    prefix: String,
    cache: KvCache<B>,
}

impl<'a, B: Backend> Decoding<'a, B> {
    /// Reads prompts: the module's inputs, `text` among them. Parameters are those under `prefix`. Gives the scores of the
    /// next token of each, too.
    ///
    /// # Errors
    /// What the module returns.
    pub fn start(
        module: &'a dyn DynModule,
        parameters: &'a Parameters<B>,
        prefix: impl Into<String>,
        inputs: Vec<(String, Value<B>)>,
    ) -> Result<(Self, Vec<Vec<f32>>), TensorError> {
        let prefix = prefix.into();
        let (scores, cache) = run(module, parameters, &prefix, inputs)?;
        Ok((Self { module, parameters, prefix, cache }, scores))
    }
}

impl<B: Backend> NextToken for Decoding<'_, B> {
    fn next(&mut self, from: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>, TensorError> {
        let cache = self.cache.select(self.parameters.backend(), from)?;
        let tokens =
            Tokens { mask: Some(vec![true; tokens.len()]), ..Tokens::new(tokens.to_vec(), tokens.len(), 1)? };
        let inputs =
            vec![("text".to_owned(), Value::Text(tokens)), ("cache".to_owned(), Value::Cache(cache))];
        let (scores, cache) = run(self.module, self.parameters, &self.prefix, inputs)?;
        self.cache = cache;
        Ok(scores)
    }
}

fn run<B: Backend>(
    module: &dyn DynModule,
    parameters: &Parameters<B>,
    prefix: &str,
    inputs: Vec<(String, Value<B>)>,
) -> Result<(Vec<Vec<f32>>, KvCache<B>), TensorError> {
    let mut cx = Forward::new(parameters.backend(), parameters.scope(prefix), Mode::Eval, 0);
    for (port, value) in inputs {
        cx = cx.input(port, value);
    }
    cx = cx.want("next").want("cache");
    parameters.backend().run(module, &mut cx)?;
    let mut outputs = cx.take_outputs()?;
    let (next, cache) = (outputs.remove("next"), outputs.remove("cache"));
    let (Some(Value::Logits(next)), Some(Value::Cache(cache))) = (next, cache) else {
        return Err(TensorError::Config("the module writes no text".to_owned()));
    };
    let data: Vec<f32> = to_vec::<_, B>(&next)?.into_iter().map(|x| x.wide() as f32).collect();
    Ok((data.chunks(data.len() / cache.batch().max(1)).map(<[f32]>::to_vec).collect(), cache))
}
