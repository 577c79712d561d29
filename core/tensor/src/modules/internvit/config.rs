//! InternViT's settings, and what follows from them alone: parameters and cost.

use crate::{
    error::TensorError,
    module::InputSize,
    parameter::{Init, ParameterSpec},
};

/// How the drop-path rate runs over the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropPathMode {
    /// From 0 in the first block to the rate in the last.
    Linear,
    /// The same rate in every block.
    Uniform,
}

/// InternViT. Input `image` `[B, 3, H, W]`; outputs
///
/// * `tokens`: the last hidden state `[B, N + 1, width]`, class token first, without a final norm,
/// * `pooler`: its class row `[B, width]`,
/// * `hidden.i` for `i` in `0..=depth`: embeddings, then the output of each block; `hidden.-1` is the last.
///
/// Blocks behind the deepest output that is wanted do not run. The defaults are InternViT-6B-224px.
#[derive(Debug, Clone, PartialEq)]
pub struct InternVit {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the perceptron.
    pub mlp_width: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Height and width in pixels of the grid that the position embedding was made for.
    pub image_size: [usize; 2],
    /// Channels of the image.
    pub channels: usize,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether queries and keys are normalised over all heads together.
    pub qk_norm: bool,
    /// Added to mean squares in norms.
    pub eps: f64,
    /// What LayerScale starts with.
    pub layer_scale: f64,
    /// Probability of leaving out a block's branch for a record, in training.
    pub drop_path: f64,
    /// How that probability runs over the blocks.
    pub drop_path_mode: DropPathMode,
    /// Share of patch tokens left out in training (FLIP; Li et al., 2023), 0 for none.
    pub mask_ratio: f64,
    /// Standard deviation of the truncated normal that matrices and embeddings start from.
    pub init_std: f64,
    /// Whether training keeps only the input of each block and runs the block again in the backward pass.
    pub checkpoint: bool,
}

impl Default for InternVit {
    fn default() -> Self {
        Self {
            width: 3200,
            depth: 48,
            heads: 25,
            mlp_width: 12800,
            patch: 14,
            image_size: [224, 224],
            channels: 3,
            qkv_bias: false,
            qk_norm: true,
            eps: 1e-6,
            layer_scale: 0.1,
            drop_path: 0.0,
            drop_path_mode: DropPathMode::Uniform,
            mask_ratio: 0.0,
            init_std: 0.02,
            checkpoint: false,
        }
    }
}

impl InternVit {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`TensorError::Config`] with the reason.
    pub fn check(&self) -> Result<(), TensorError> {
        let wrong = |reason: String| Err(TensorError::Config(reason));
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) || self.width == 0 {
            return wrong(format!("width {} does not divide into {} heads", self.width, self.heads));
        }
        if self.patch == 0 || self.image_size.iter().any(|&side| side == 0 || side % self.patch != 0) {
            let [height, width] = self.image_size;
            return wrong(format!(
                "an image of {height}x{width} does not divide into patches of {}",
                self.patch
            ));
        }
        for (what, share) in [("drop path", self.drop_path), ("mask ratio", self.mask_ratio)] {
            if !(0.0..1.0).contains(&share) {
                return wrong(format!("{what} has to be at least 0 and below 1, not {share}"));
            }
        }
        Ok(())
    }

    /// Rows and columns of patches that the position embedding was made for.
    pub fn native_grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch)
    }

    /// Drop-path rate of block `index`.
    pub fn drop_path_of(&self, index: usize) -> f64 {
        match self.drop_path_mode {
            DropPathMode::Uniform => self.drop_path,
            DropPathMode::Linear => self.drop_path * index as f64 / (self.depth.max(2) - 1) as f64,
        }
    }

    /// The parameters under their published names, started as BEiT's (Bao et al., 2022): truncated normal,
    /// biases 0, the last matrix of each branch of block `i` (from 1) divided by `sqrt(2 i)`.
    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let normal = Init::TruncatedNormal { std: self.init_std };
        let [rows, columns] = self.native_grid();
        let (d, positions) = (self.width, rows * columns + 1);
        let mut specs = vec![
            ParameterSpec::new("embeddings.class_embedding", [1, 1, d], normal),
            ParameterSpec::new("embeddings.position_embedding", [1, positions, d], normal).without_decay(),
            ParameterSpec::new(
                "embeddings.patch_embedding.weight",
                [d, self.channels, self.patch, self.patch],
                normal,
            ),
            ParameterSpec::new("embeddings.patch_embedding.bias", [d], Init::Zeros),
        ];
        specs.extend((0..self.depth).flat_map(|index| self.block_specs(index)));
        specs
    }

    fn block_specs(&self, index: usize) -> Vec<ParameterSpec> {
        let (d, m) = (self.width, self.mlp_width);
        let normal = Init::TruncatedNormal { std: self.init_std };
        let last = Init::TruncatedNormal { std: self.init_std / (2.0 * (index + 1) as f64).sqrt() };
        let scale = Init::Constant(self.layer_scale);
        let spec = |local: &str, shape: &[usize], init| {
            ParameterSpec::new(format!("encoder.layers.{index}.{local}"), shape, init)
        };
        let mut specs = vec![
            spec("norm1.weight", &[d], Init::Ones),
            spec("norm2.weight", &[d], Init::Ones),
            spec("ls1", &[d], scale),
            spec("ls2", &[d], scale),
            spec("attn.qkv.weight", &[3 * d, d], normal),
            spec("attn.proj.weight", &[d, d], last),
            spec("attn.proj.bias", &[d], Init::Zeros),
            spec("mlp.fc1.weight", &[m, d], normal),
            spec("mlp.fc1.bias", &[m], Init::Zeros),
            spec("mlp.fc2.weight", &[d, m], last),
            spec("mlp.fc2.bias", &[d], Init::Zeros),
        ];
        if self.qkv_bias {
            specs.push(spec("attn.qkv.bias", &[3 * d], Init::Zeros));
        }
        if self.qk_norm {
            specs.push(spec("attn.q_norm.weight", &[d], Init::Ones));
            specs.push(spec("attn.k_norm.weight", &[d], Init::Ones));
        }
        specs
    }

    /// Multiply-adds of one image. Attention counts the patch tokens only, linear layers the class token as
    /// well: the paper's counter does, and so gives the values of its table 11.
    pub(super) fn count_macs(&self, input: InputSize) -> u64 {
        let InputSize::Image { height, width } = input else { return 0 };
        let patches = ((height / self.patch) * (width / self.patch)) as u64;
        let (d, m, p) = (self.width as u64, self.mlp_width as u64, self.patch as u64);
        let linear = (patches + 1) * (4 * d * d + 2 * d * m);
        let attention = 2 * patches * patches * d;
        self.depth as u64 * (linear + attention) + patches * self.channels as u64 * p * p * d
    }
}
