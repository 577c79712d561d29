//! The parameters and outputs that `model.llama` and `model.qllama` have in common.

use heddle_graph::{
    config::Reader,
    graph::{Class, Dim, OutPort, PortType},
};
use heddle_tensor::modules::Decoder;

use super::{checkpoint, lora::read_lora};

/// Reads the stack's settings.
pub fn read_decoder(r: &mut Reader<'_>) -> Decoder {
    let base = Decoder::default();
    let decoder = Decoder {
        vocab: r.field("vocab", "vocabulary size").min(3).max(1 << 24).or(base.vocab),
        width: r.field("width", "hidden size").min(1).max(65_536).or(base.width),
        depth: r.field("depth", "number of layers").min(1).max(4_096).or(base.depth),
        heads: r
            .field("heads", "attention heads; divide the width into even parts")
            .min(1)
            .max(65_536)
            .or(base.heads),
        kv_heads: r
            .field("kv-heads", "heads of keys and values, each read by several heads of queries; as many as `heads` if absent")
            .min(1)
            .max(65_536)
            .optional(),
        mlp_width: r.field("mlp-width", "hidden size of the gated MLP").min(1).max(1 << 20).or(base.mlp_width),
        eps: r.field("eps", "epsilon of the RMSNorms").positive().or(base.eps),
        rope_base: r.field("rope-base", "base of the rotary frequencies").positive().or(base.rope_base),
        max_positions: r
            .field("max-positions", "longest sequence, tokens")
            .min(1)
            .max(1 << 20)
            .or(base.max_positions),
        checkpoint: checkpoint(r),
        lora: read_lora(r),
    };
    if !decoder.width.is_multiple_of(decoder.heads) || !(decoder.width / decoder.heads).is_multiple_of(2) {
        let message =
            format!("{} heads do not divide the width {} into even parts", decoder.heads, decoder.width);
        r.error(
            "heads",
            &message,
            Some("rotary positions turn pairs of values, so a head needs an even size"),
        );
    }
    if let Some(kept) = decoder.kv_heads
        && !decoder.heads.is_multiple_of(kept)
    {
        let message = format!("{} heads do not divide among {kept} heads of keys and values", decoder.heads);
        r.error("kv-heads", message, None);
    }
    decoder
}

/// Reads the size of `text_projection`.
pub fn read_projection(r: &mut Reader<'_>) -> Option<usize> {
    r.field("projection", "size of `text_projection`; without it `eos` equals `last`")
        .min(1)
        .max(65_536)
        .optional()
}

/// What a decoder says of a text `[B, T]`.
pub fn text_ports(
    decoder: &Decoder,
    projection: Option<usize>,
    head: bool,
    [batch, length]: [Dim; 2],
) -> Vec<OutPort> {
    let Decoder { width, vocab, .. } = *decoder;
    let vector = |size: usize| PortType::new(Class::Vector, [batch.clone(), size.into()]);
    let sequence = |size: usize| PortType::new(Class::Sequence, [batch.clone(), length.clone(), size.into()]);
    let mut ports = vec![
        OutPort::new("eos", vector(projection.unwrap_or(width))),
        OutPort::new("last", vector(width)),
        OutPort::new("hidden", sequence(width)),
    ];
    if head {
        let rows = Dim::sym("R");
        ports.push(OutPort::new("logits", sequence(vocab)));
        ports.push(OutPort::new("predictions", PortType::new(Class::Logits, [rows.clone(), vocab.into()])));
        ports.push(OutPort::new("targets", PortType::new(Class::Targets, [rows])));
    }
    ports
}

/// `states.i`: whole sequences before each layer, and after the final norm.
pub fn state_ports(decoder: &Decoder, batch: Dim, length: Dim) -> impl Iterator<Item = OutPort> {
    let ty = PortType::new(Class::Sequence, [batch, length, decoder.width.into()]);
    (0..=decoder.depth).map(move |index| OutPort::new(format!("states.{index}"), ty.clone()))
}
