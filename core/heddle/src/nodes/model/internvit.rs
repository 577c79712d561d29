//! `model.internvit`: the vision transformer of InternVL.

use heddle_graph::{
    config::Reader,
    graph::{Class, Dim, InPort, Inputs, Kind, KindSpec, Mismatch, NodeSpec, OutPort, PortType},
};
use heddle_tensor::{
    DynModule,
    modules::{DropPathMode, InternVit as Config},
};

use super::{batch, checkpoint, one_input};
use crate::{model::Published, nodes::ModelNode};

/// The kind.
pub struct InternVit;

struct Vit {
    config: Config,
    published: Published,
}

impl Kind<dyn ModelNode, ()> for InternVit {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "model.internvit",
            version: 1,
            summary: "InternViT: a pre-norm vision transformer with q/k normalisation and LayerScale",
            details: "x = x + dp(ls1 * Attn(RMSNorm(x))); x = x + dp(ls2 * MLP(RMSNorm(x))), no norm after the last \
                      block (InternVL, CVPR 2024, section 3.2 and Table 1). The defaults are InternViT-6B. An image of \
                      another size than `image-size` gets its position embedding interpolated bicubically. \
                      `hidden.0` is the embedding output, `hidden.i` the output of block i; negative indices count \
                      from the end, so `hidden.-4` is the published `select_layer = -4`.",
            example: "[nodes.vit]\nkind = \"model.internvit\"\nin = \"image\"\nwidth = 384\ndepth = 12\nheads = 6\n",
        }
    }

    fn read(&self, r: &mut Reader<'_>, _: &()) -> Box<dyn ModelNode> {
        let base = Config::default();
        let width: usize = r.field("width", "hidden size D").min(1).max(65_536).or(base.width);
        let depth: usize = r.field("depth", "number of blocks L").min(1).max(4_096).or(base.depth);
        let heads: usize =
            r.field("heads", "attention heads; divide the width").min(1).max(65_536).or(base.heads);
        let mlp: Option<usize> = r
            .field("mlp-width", "hidden size of the MLP; 4 x width if absent")
            .min(1)
            .max(1 << 20)
            .optional();
        let patch: usize = r.field("patch", "patch side, pixels").min(1).max(1_024).or(base.patch);
        let native: usize = r
            .field("image-size", "image side whose grid the position embedding has, pixels")
            .min(1)
            .max(65_536)
            .or(224);
        let qkv_bias: bool = r.field("qkv-bias", "bias of the qkv linear layer").or(base.qkv_bias);
        let qk_norm: bool =
            r.field("qk-norm", "RMSNorm of q and k over all heads concatenated").or(base.qk_norm);
        let eps: f64 = r.field("eps", "epsilon of the RMSNorms").positive().or(base.eps);
        let layer_scale: f64 = r.field("layer-scale", "initial value of ls1 and ls2").or(base.layer_scale);
        let drop_path: f64 =
            r.field("drop-path", "stochastic depth rate").range(0.0..=0.99).or(base.drop_path);
        let drop_path_mode = r
            .choice(
                "drop-path-mode",
                "how the rate is spread over the blocks",
                &[
                    ("linear", DropPathMode::Linear, "from 0 in the first block to the rate in the last"),
                    ("uniform", DropPathMode::Uniform, "the same in every block (stage 1 of the paper)"),
                ],
            )
            .or("linear");
        let mask_ratio: f64 = r
            .field(
                "mask-ratio",
                "share of patch tokens dropped in training, after the positions are added (FLIP)",
            )
            .range(0.0..=0.95)
            .or(0.0);
        if !width.is_multiple_of(heads) {
            r.error("heads", format!("{heads} heads do not divide the width {width}"), None);
        }
        if !native.is_multiple_of(patch) {
            r.error("image-size", format!("{native} pixels are no multiple of the patch of {patch}"), None);
        }
        let published = Published::read(r);
        let config = Config {
            width,
            depth,
            heads,
            mlp_width: mlp.unwrap_or(4 * width),
            patch,
            image_size: [native, native],
            qkv_bias,
            qk_norm,
            eps,
            layer_scale,
            drop_path,
            drop_path_mode,
            mask_ratio,
            checkpoint: checkpoint(r),
            ..base
        };
        Box::new(Vit { config, published })
    }
}

impl NodeSpec for Vit {
    fn inputs(&self) -> Vec<InPort> {
        one_input("image", &[Class::Image], "normalised images")
    }

    fn infer(&self, inputs: &Inputs) -> Result<Vec<OutPort>, Mismatch> {
        let Config { width, patch, depth, .. } = self.config;
        let side = |index: usize, name: &str| {
            let ty = inputs.get("image");
            ty.and_then(|ty| ty.shape.get(index).cloned()).unwrap_or_else(|| Dim::sym(name))
        };
        let (height, breadth) = (side(2, "H"), side(3, "W"));
        for size in [&height, &breadth].into_iter().filter_map(Dim::known) {
            if size % patch != 0 || size == 0 {
                return Err(Mismatch {
                    port: Some("image"),
                    param: Some("patch"),
                    message: format!("an image side of {size} pixels is no multiple of the patch of {patch}"),
                    help: Some(format!(
                        "use a multiple of {patch}, for example {}",
                        size.div_ceil(patch).max(1) * patch
                    )),
                });
            }
        }
        let tokens = match (height.known(), breadth.known()) {
            (Some(h), Some(w)) => Dim::Const(1 + (h / patch) * (w / patch)),
            _ => Dim::Sym(format!("1+({height}/{patch})*({breadth}/{patch})")),
        };
        let batch = batch(inputs, "image");
        let sequence = PortType::new(Class::Sequence, [batch.clone(), tokens, width.into()]);
        let mut ports = vec![
            OutPort::new("tokens", sequence.clone()),
            OutPort::new("pooler", PortType::new(Class::Vector, [batch, width.into()])),
        ];
        ports.extend((0..=depth).map(|i| OutPort::new(format!("hidden.{i}"), sequence.clone())));
        ports.extend((1..=depth + 1).map(|i| OutPort::new(format!("hidden.-{i}"), sequence.clone())));
        Ok(ports)
    }
}

impl ModelNode for Vit {
    fn published(&self) -> Option<&Published> {
        Some(&self.published)
    }

    fn module(&self, _: &Inputs) -> Box<dyn DynModule> {
        Box::new(self.config.clone())
    }
}
